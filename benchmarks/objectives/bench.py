"""What the runs of one task and seed share: problems, tools, the expert and the base policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.objectives.labels import Labeller, build_labeller
from benchmarks.objectives.settings import StudyTask
from distil_core.errors import ConfigError
from distil_core.feedback.compose import render_student
from distil_core.policy.model import save_policy
from distil_core.policy.new_model import new_model
from distil_core.policy.tokenizer import character_tokenizer, encode_context, load_tokenizer
from distil_core.problems import build_source
from distil_core.problems.base import Problem, ProblemSource, SupervisedSource
from distil_core.problems.splits import make_splits
from distil_core.progress import no_progress
from distil_core.seeds import derive_seed
from distil_core.training.warm_start import warm_start
from distil_core.training.warm_start_data import correction_examples, demonstration_examples
from distil_core.verifiers import build_verifier
from distil_core.verifiers.base import Verifier

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Bench:
    """What all runs of one (task, seed) share: problems, tools, expert and the base policy."""

    task: StudyTask
    seed: int
    splits: dict[str, list[Problem]]
    verifier: Verifier
    tokenizer: PreTrainedTokenizerBase
    base_dir: Path
    labeller: Labeller

    @property
    def validation(self) -> list[Problem]:
        """Chooses learning rates."""
        return self.splits["eval"][: self.task.budget.num_validation]

    @property
    def test(self) -> list[Problem]:
        """Read by reports only."""
        return self.splits["eval"][self.task.budget.num_validation :]

    def context_ids(self, problem: Problem) -> list[int]:
        """The student's context."""
        segments = render_student(self.task.context.student_template, problem.prompt)
        return encode_context(self.tokenizer, segments)


def make_bench(task: StudyTask, seed: int, bases_dir: Path) -> Bench:
    """The bench of (task, seed); its base policy is trained on first use and kept in
    `bases_dir`, under a digest of everything that it depends on."""
    source = build_source(task.problems)
    sizes = {
        "eval": task.problems.num_eval,
        "train": task.problems.num_train,
        "warm_start": task.problems.num_warm_start,
    }
    splits = make_splits(source, sizes, seed)
    verifier = build_verifier(task.consult)
    base_dir = bases_dir / f"{task.problems.source.name}-{task.digest()}-{seed}"
    if not base_dir.exists():
        _make_base(task, seed, source, splits["warm_start"], verifier, base_dir)
    tokenizer = load_tokenizer(base_dir)
    labeller = build_labeller(task, source, base_dir, tokenizer)
    return Bench(task, seed, splits, verifier, tokenizer, base_dir, labeller)


def _make_base(
    task: StudyTask,
    seed: int,
    source: ProblemSource,
    problems: Sequence[Problem],
    verifier: Verifier,
    base_dir: Path,
) -> None:
    if not isinstance(source, SupervisedSource):
        raise ConfigError(f"{task.problems.source.name!r} makes no text for a base policy")
    tokenizer = character_tokenizer(source.alphabet())
    model = new_model(task.base.architecture, tokenizer, derive_seed(seed, "base", "weights"))
    warm_start(
        model,
        demonstration_examples(problems, source, tokenizer, task.context, seed),
        correction_examples(problems, source, verifier, tokenizer, task.context, seed),
        task.base,
        seed,
        no_progress,
    )
    save_policy(model, tokenizer, base_dir)
