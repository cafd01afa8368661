"""Stage `base`: the policy that the first iteration starts from."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import torch

from distil_core.campaign.inputs import too_few_positions
from distil_core.campaign.stage_code import all_digests
from distil_core.config.models import FromScratchBase, IterationParams, PretrainedBase
from distil_core.errors import ConfigError
from distil_core.feedback.contexts import ContextRenderer
from distil_core.policy.model import save_policy
from distil_core.policy.new_model import new_model
from distil_core.policy.pretrained import link_pretrained
from distil_core.policy.tokenizer import character_tokenizer, load_tokenizer
from distil_core.problems import build_source
from distil_core.problems.base import Problem, ProblemSource, SupervisedSource
from distil_core.problems.store import read_problems
from distil_core.progress import ProgressCallback
from distil_core.seeds import derive_seed
from distil_core.training.resume import ResumePoint, file_digest, fingerprint
from distil_core.training.warm_start import WarmStartExample, warm_start
from distil_core.training.warm_start_data import correction_examples, demonstration_examples
from distil_core.training.warm_start_turns import TurnExamples, turn_source
from distil_core.verifiers import build_verifier
from distil_core.workspace import Workspace
from distil_tasks.base_warm_start import warm_start_checkpoint
from distil_tasks.stage import StageSpec, main

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def body(workspace: Workspace, params: IterationParams, progress: ProgressCallback) -> None:
    """Write data/policy-000, an ordinary Hugging Face folder."""
    if not isinstance(params.base, PretrainedBase):
        _from_scratch(workspace, params, params.base, progress)
        return
    warm = params.base.warm_start
    folder = workspace.policy_dir(0) if warm is None else workspace.scratch_dir / "cold-base"
    for line in link_pretrained(params.base, folder):
        print(f"base: {line}", file=sys.stderr)
    # Of a downloaded one nothing was known before.
    for reason in too_few_positions(params, folder):
        raise ConfigError(reason)
    # Both contexts in its chat template, or with its first token: refused before anything is
    # sampled where they cannot be made.
    renderer = ContextRenderer(params.context, load_tokenizer(folder))
    if warm is not None:
        warm_start_checkpoint(workspace, params, warm, folder, renderer, STAGE, progress)
        shutil.rmtree(folder)


def _from_scratch(
    workspace: Workspace,
    params: IterationParams,
    base: FromScratchBase,
    progress: ProgressCallback,
) -> None:
    source = build_source(params.problems)
    problems = read_problems(workspace.problems_dir / "warm_start.parquet")
    tokenizer = character_tokenizer(source.alphabet())
    model = new_model(base.architecture, tokenizer, derive_seed(params.seed, "base", "weights"))
    # transformers' own `to` has types that say otherwise.
    torch.nn.Module.to(model, params.compute.device)
    demonstrations, corrections = _examples(source, problems, base, tokenizer, params)
    resume = ResumePoint(
        workspace.resume_file("base", 0),
        fingerprint(
            stage_version=STAGE.version,
            code=all_digests(STAGE.stage, params),
            settings=params.model_dump(
                mode="json", include={"seed", "compute", "context", "consult"}
            ),
            base=base.model_dump(mode="json"),
            source=params.problems.source.model_dump(mode="json"),
            problems=file_digest(workspace.problems_dir / "warm_start.parquet"),
        ),
        params.resume.checkpoint_every_s,
    )
    warm_start(model, demonstrations, corrections, base, params.seed, progress, resume)
    save_policy(model, tokenizer, workspace.policy_dir(0))
    resume.remove()


def _examples(
    source: ProblemSource,
    problems: Sequence[Problem],
    base: FromScratchBase,
    tokenizer: PreTrainedTokenizerBase,
    params: IterationParams,
) -> tuple[list[WarmStartExample], list[WarmStartExample]]:
    """Demonstrations and corrections. Raises `ConfigError` for a source that makes none."""
    context, seed, name = params.context, params.seed, params.problems.source.name
    corrected = problems[: base.num_corrections]
    with closing(build_verifier(params.consult)) as verifier:
        if context.environment is not None:
            of_turns = turn_source(source, name)
            making = TurnExamples(of_turns, verifier, tokenizer, context, seed)
            return making.demonstrations(problems), making.corrections(corrected)
        if not isinstance(source, SupervisedSource):
            raise ConfigError(
                f"base.kind from_scratch needs a problem source that makes supervised text; "
                f"{name!r} does not: use base.kind pretrained"
            )
        return (
            demonstration_examples(problems, source, tokenizer, context, seed),
            correction_examples(corrected, source, verifier, tokenizer, context, seed),
        )


STAGE = StageSpec("base", version=3, body=body)

if __name__ == "__main__":
    main(STAGE)
