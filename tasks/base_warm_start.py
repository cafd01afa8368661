"""The warm start of a pretrained base, a part of stage `base`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from distil_core.campaign.stage_code import all_digests
from distil_core.config.models import AttemptParams, IterationParams, WarmStartParams
from distil_core.engines.base import SampleRequest, SamplingSettings
from distil_core.engines.transformers import TransformersEngine
from distil_core.errors import DataError
from distil_core.feedback.contexts import ContextRenderer
from distil_core.feedback.sources import known_kinds
from distil_core.feedback.sources.base import AskablePolicy, SourceSetting
from distil_core.policy.batching import max_positions
from distil_core.policy.conventions import end_token_ids
from distil_core.policy.model import load_model, save_policy
from distil_core.policy.tokenizer import decode, load_tokenizer
from distil_core.problems import build_source
from distil_core.problems.base import Problem
from distil_core.problems.messages import prompt_of
from distil_core.problems.refused import Refused
from distil_core.problems.store import read_problems
from distil_core.progress import ProgressCallback
from distil_core.seeds import derive_seed
from distil_core.training.activation_checkpointing import set_activation_checkpointing
from distil_core.training.lora import Adapters
from distil_core.training.problem_examples import ProblemTexts, WarmStartTexts
from distil_core.training.resume import ResumePoint, fingerprint, folder_digest
from distil_core.training.supervised_examples import ExampleMaker, examples_digest
from distil_core.training.supervised_file import read_supervised_rows
from distil_core.training.warm_start import BatchComputing, require_computable, warm_start
from distil_core.verifiers.base import Verifier
from distil_core.verifiers.pool import (
    Journal,
    JournalVerifier,
    VerificationJob,
    settings_digest,
    verify_all,
)
from distil_core.workspace import Workspace

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from distil_tasks.stage import StageSpec


def warm_start_checkpoint(
    workspace: Workspace,
    params: IterationParams,
    warm: WarmStartParams,
    folder: Path,
    renderer: ContextRenderer,
    spec: StageSpec,
    progress: ProgressCallback,
) -> None:
    """Train the checkpoint in `folder`, and write it to data/policy-000, with float32 weights. Says
    on stderr what it was trained on, and what was left out."""
    tokenizer = load_tokenizer(folder)
    # As in `train`: most updates are too small to change a bfloat16 weight at all.
    model = load_model(folder, params.compute.model_copy(update={"dtype": "float32"}))
    maker = ExampleMaker(tokenizer, renderer, warm.max_response_tokens, max_positions(model))
    with Journal(
        workspace.verification_journal("base", 0), settings_digest(params.consult, spec.version)
    ) as journal:
        base = _Base(params, warm, model, tokenizer, renderer, journal, progress)
        texts = base.rows(maker) if warm.file is not None else base.problems(workspace, maker)
        for line in (
            f"warm start on {len(texts.demonstrations)} demonstrations and "
            f"{len(texts.corrections)} corrections",
            *texts.notes,
        ):
            print(f"base: {line}", file=sys.stderr)
        resume = ResumePoint(
            workspace.resume_file("base", 0),
            fingerprint(
                stage_version=spec.version,
                code=all_digests(spec.stage, params),
                seed=params.seed,
                compute=params.compute.model_dump(mode="json"),
                warm_start=warm.model_dump(mode="json"),
                base=folder_digest(folder),
                examples=examples_digest([*texts.demonstrations, *texts.corrections]),
            ),
            params.resume.checkpoint_every_s,
        )
        _train(model, texts, warm, params, resume, progress)
        save_policy(model, tokenizer, workspace.policy_dir(0))
        resume.remove()
        journal.remove()


def _train(
    model: PreTrainedModel,
    texts: WarmStartTexts,
    warm: WarmStartParams,
    params: IterationParams,
    resume: ResumePoint,
    progress: ProgressCallback,
) -> None:
    section = "base.warm_start"
    adapters = (
        Adapters(model, warm.lora, derive_seed(params.seed, "base", "lora"), section)
        if warm.lora
        else None
    )
    computing = BatchComputing(
        warm.micro_batch_size, warm.tiled_head_above_vocabulary, params.compute.dtype
    )
    require_computable(model, [*texts.demonstrations, *texts.corrections], warm, computing)
    set_activation_checkpointing(model, warm.activation_checkpointing, section)
    warm_start(
        *(model, texts.demonstrations, texts.corrections, warm, params.seed, progress),
        resume,
        computing,
    )
    set_activation_checkpointing(model, False, section)
    if adapters is not None:
        adapters.merge()


class _Base:
    """What examples are made with: the base itself, its contexts, and the verifier."""

    def __init__(
        self,
        params: IterationParams,
        warm: WarmStartParams,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        renderer: ContextRenderer,
        journal: Journal,
        progress: ProgressCallback,
    ):
        self._params, self._warm = params, warm
        self._model, self._tokenizer, self._renderer = model, tokenizer, renderer
        self._journal, self._progress = journal, progress

    def rows(self, maker: ExampleMaker) -> WarmStartTexts:
        """Examples of the user's own rows. Raises `DataError` with all that cannot be used."""
        assert self._warm.file is not None
        kinds = known_kinds(self._params.consult.sources)
        rows, refused = read_supervised_rows(self._warm.file, self._warm, kinds), Refused()
        texts = WarmStartTexts([], [], [])
        for row in rows:
            try:
                kind = texts.demonstrations if row.feedback is None else texts.corrections
                kind.append(maker.of_row(row))
            except DataError as error:
                refused.add(row.where, str(error).removeprefix(f"{row.where}: "))
        if refused.count:
            raise DataError(
                f"{refused.count} rows of base.warm_start.file cannot be used:\n  {refused}"
            )
        return texts

    def problems(self, workspace: Workspace, maker: ExampleMaker) -> WarmStartTexts:
        """Examples of the campaign's warm-start problems."""
        params = self._params
        texts = ProblemTexts(
            build_source(params.problems),
            self._warm,
            params.consult,
            maker,
            params.seed,
            self._verified,
            self._sampled,
        )
        setting = SourceSetting(params.seed, cache(self._askable), self._progress)
        return texts.make(read_problems(workspace.problems_dir / "warm_start.parquet"), setting)

    def _verified(self, answers: Sequence[tuple[Problem, str]]) -> Verifier:
        jobs = [VerificationJob(problem, text) for problem, text in answers]
        num_workers = self._params.verification.num_workers
        verify_all(
            iter(jobs), len(jobs), self._params.consult, num_workers, self._journal, self._progress
        )
        return JournalVerifier(self._journal)

    def _sampled(self, problems: Sequence[Problem]) -> list[str | None]:
        """An attempt at each problem. One that is cut is what it is: an attempt without an end."""
        assert self._warm.attempts is not None
        how: AttemptParams = self._warm.attempts
        requests = [
            SampleRequest(
                self._renderer.student(prompt_of(problem), problem.problem_id).token_ids,
                derive_seed(self._params.seed, "base", "attempt", problem.problem_id),
            )
            for problem in problems
        ]
        settings = SamplingSettings(how.max_new_tokens, how.temperature, how.top_p)
        samples = self._engine(how.batch_size).sample(requests, settings, self._progress)
        return [decode(self._tokenizer, sample.token_ids) for sample in samples]

    def _askable(self) -> AskablePolicy:
        size = 16 if self._warm.attempts is None else self._warm.attempts.batch_size
        return AskablePolicy(self._engine(size), self._tokenizer, self._renderer)

    def _engine(self, batch_size: int) -> TransformersEngine:
        return TransformersEngine(self._model, end_token_ids(self._tokenizer), batch_size)
