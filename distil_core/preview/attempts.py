"""A handful of problems through the stages' own functions, kept in memory."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from distil_core.campaign.load import load_iteration_params
from distil_core.config.models import Params
from distil_core.engines.base import (
    Engine,
    SamplingSettings,
    ScoreRequest,
)
from distil_core.errors import ConfigError
from distil_core.evaluation.expert_with_feedback import JudgedAttempt, sample_expert
from distil_core.evaluation.judging import JudgedResponse
from distil_core.evaluation.sampling import verify_and_judge
from distil_core.feedback.consultation import consult_all
from distil_core.feedback.contexts import ContextRenderer, RenderedContext
from distil_core.feedback.sources.base import AskablePolicy, SourceSetting
from distil_core.feedback.transcript import attempt_text
from distil_core.policy.tokenizer import load_tokenizer
from distil_core.preview.loaded import LoadedModels
from distil_core.preview.policies import PreviewedPolicy
from distil_core.problems.base import Problem
from distil_core.problems.choice import choose_problems
from distil_core.problems.messages import prompt_of
from distil_core.problems.splits import campaign_problems
from distil_core.progress import ProgressCallback, no_progress
from distil_core.rollouts.rows import plan_rollouts, rollout_rows
from distil_core.rollouts.sampled import require_rollouts
from distil_core.rollouts.sampler import RolloutSampler
from distil_core.tables.schemas import ConsultationRow, FeedbackTableRow, RolloutRow
from distil_core.tables.turns import policys_ids, turn_lengths
from distil_core.training.feedback_table import (
    JudgedRollout,
    Labeller,
    count_without_feedback,
    judged_rollouts,
)
from distil_core.verifiers import build_verifier
from distil_core.verifiers.pool import Journal
from distil_core.workspace import Workspace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Attempt:
    """A rollout with all that came of it.

    judged: with the expert's context; None without a verdict. row: of the feedback table; None
    likewise. student_ids: the student's most likely token at each token that it wrote. answer: what
    the expert wrote itself after it had read the feedback; None where it was not asked. answer_ids:
    its tokens.
    """

    rollout: RolloutRow
    consultation: ConsultationRow
    judged: JudgedRollout | None = None
    row: FeedbackTableRow | None = None
    student_ids: Sequence[int] = ()
    answer: JudgedResponse | None = None
    answer_ids: Sequence[int] = ()


@dataclass(frozen=True)
class Tried:
    """One preview. num_held_out: problems that an evaluation has. contexts: the student's, by
    problem id. seconds: of each part, by its name. complaint: why no expert label could be of use,
    with these settings. writes: whether the expert is a policy that could be sampled."""

    params: Params
    policy: PreviewedPolicy
    tokenizer: PreTrainedTokenizerBase
    num_held_out: int
    problems: Sequence[Problem]
    contexts: dict[str, RenderedContext]
    attempts: Sequence[Attempt]
    seconds: dict[str, float]
    complaint: str | None
    writes: bool


@dataclass
class _Clock:
    models: LoadedModels
    progress: ProgressCallback
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time the block, without what it loads."""
        started, loading = time.monotonic(), self.models.seconds
        yield
        loaded = self.models.seconds - loading
        self.seconds[name] = max(time.monotonic() - started - loaded, 1e-6)

    def set_apart(self, name: str, seconds: float, of: str) -> None:
        """Count these seconds of another part as a part of their own."""
        self.seconds[name] = seconds
        self.seconds[of] = max(self.seconds[of] - seconds, 1e-6)


class Preview:
    """Problems through everything that an iteration does except training.

    num_problems: how many of those that the iteration would sample on. scratch_dir: for verdicts
    while it works.
    """

    def __init__(
        self,
        workspace: Workspace,
        params: Params,
        policy: PreviewedPolicy,
        models: LoadedModels,
        scratch_dir: Path,
        num_problems: int,
        progress: ProgressCallback = no_progress,
    ):
        self._workspace = workspace
        self._params = params
        self._policy = policy
        self._models = models
        self._scratch_dir = scratch_dir
        self._num_problems = num_problems
        self._clock = _Clock(models, progress)
        self._progress = progress

    def run(self) -> Tried:
        """Raises what the stages would raise with these settings."""
        params, tokenizer = self._params, load_tokenizer(self._policy.policy_dir)
        renderer = ContextRenderer(params.context, tokenizer)
        problems, num_held_out = self._problems()
        contexts = {
            problem.problem_id: renderer.student(prompt_of(problem), problem.problem_id)
            for problem in problems
        }
        rollouts = self._sample(problems, contexts, tokenizer)
        with Journal(self._scratch_dir / "verdicts.sqlite", "preview") as journal:
            by_id = {problem.problem_id: problem for problem in problems}
            consultations = self._consult(by_id, rollouts, renderer, tokenizer, journal)
            student_ids = self._student_ids(rollouts)
            judged = judged_rollouts(rollouts, consultations, by_id, renderer)
            answers = self._ask(judged, consultations, renderer, journal)
            journal.remove()
        rows, complaint = self._label(judged, renderer)
        found = {one.rollout.rollout_id: index for index, one in enumerate(judged)}
        attempts = []
        for rollout, consultation, ids in zip(rollouts, consultations, student_ids, strict=True):
            attempt = Attempt(rollout, consultation, student_ids=ids)
            if (place := found.get(rollout.rollout_id)) is not None:
                answer, answer_ids = answers.get(rollout.rollout_id, (None, ()))
                attempt = Attempt(
                    rollout,
                    consultation,
                    judged[place],
                    rows[place],
                    ids,
                    answer,
                    answer_ids,
                )
            attempts.append(attempt)
        return Tried(
            params,
            self._policy,
            tokenizer,
            num_held_out,
            problems,
            contexts,
            attempts,
            self._clock.seconds,
            complaint,
            self._writing_expert_dir() is not None,
        )

    def _problems(self) -> tuple[list[Problem], int]:
        params = self._params
        with self._clock.part("problems"):
            verifier = build_verifier(params.consult)
            try:
                made = campaign_problems(params, verifier.check_problem)
                number = self._policy.iteration
                earlier = [
                    load_iteration_params(
                        self._workspace, before, with_components=False
                    ).sample.num_prompts
                    for before in range(1, number)
                ]
                chosen = choose_problems(
                    made.splits["train"], params.sample.num_prompts, number, params.seed, earlier
                )[: self._num_problems]
                for problem in chosen:
                    verifier.check_problem(problem)
            finally:
                verifier.close()
        return chosen, len(made.splits["eval"])

    def _sample(
        self,
        problems: Sequence[Problem],
        contexts: dict[str, RenderedContext],
        tokenizer: PreTrainedTokenizerBase,
    ) -> list[RolloutRow]:
        settings = self._params.sample
        planned = plan_rollouts(
            self._policy.iteration,
            problems,
            settings.num_rollouts,
            {name: context.token_ids for name, context in contexts.items()},
            self._params.seed,
        )
        engine, requests = self._student(), [one.request for one in planned]
        # The first call of a process takes longer, and is no measure of the others.
        engine.sample(requests[:1], replace(self._sampling, max_new_tokens=1), no_progress)
        sampler = self._sampler(engine, tokenizer)
        with self._clock.part("sample"):
            rollouts = sampler.sample(
                [one.problem for one in planned], requests, self._sampling, self._progress
            )
        if self._params.context.environment is not None:
            self._clock.set_apart("environment", sampler.waited_s, of="sample")
        require_rollouts(rollouts)
        return rollout_rows(self._policy.iteration, planned, rollouts)

    def _sampler(self, engine: Engine, tokenizer: PreTrainedTokenizerBase) -> RolloutSampler:
        params = self._params
        num_workers = params.verification.num_workers
        return RolloutSampler(engine, tokenizer, params.context, num_workers)

    def _consult(
        self,
        problems: Mapping[str, Problem],
        rollouts: Sequence[RolloutRow],
        renderer: ContextRenderer,
        tokenizer: PreTrainedTokenizerBase,
        journal: Journal,
    ) -> list[ConsultationRow]:
        params = self._params
        setting = SourceSetting(
            params.seed, lambda: AskablePolicy(self._student(), tokenizer, renderer), no_progress
        )
        with self._clock.part("consult"):
            rows, _ = consult_all(
                rollouts,
                problems,
                params.consult,
                params.context,
                params.verification.num_workers,
                journal,
                setting,
                self._progress,
            )
        return rows

    def _student_ids(self, rollouts: Sequence[RolloutRow]) -> list[list[int]]:
        asked = [one for one in rollouts if one.response_ids]
        requests = [ScoreRequest(one.context_ids, one.response_ids) for one in asked]
        engine = self._student()
        scored = engine.score(requests[:1], 1, 1.0, no_progress)
        with self._clock.part("score"):
            scored += engine.score(requests[1:], 1, 1.0, self._progress)
        found = {
            one.rollout_id: policys_ids(each.token_ids.tolist(), turn_lengths(one.turns))
            for one, each in zip(asked, scored, strict=True)
        }
        return [found.get(one.rollout_id, []) for one in rollouts]

    def _ask(
        self,
        judged: Sequence[JudgedRollout],
        consultations: Sequence[ConsultationRow],
        renderer: ContextRenderer,
        journal: Journal,
    ) -> dict[str, tuple[JudgedResponse, Sequence[int]]]:
        """By rollout, what the expert writes itself, judged."""
        expert_dir = self._writing_expert_dir()
        asked = [one for one in judged if renderer.has_feedback(one.feedback)]
        if expert_dir is None or not asked:
            return {}
        verdicts = {row.rollout_id: row.verdict for row in consultations}
        attempts = [
            JudgedAttempt(
                one.problem,
                one.rollout.sample_index,
                attempt_text(one.rollout, self._params.context),
                verdicts[one.rollout.rollout_id],
                one.feedback,
            )
            for one in asked
        ]
        params = self._params
        with self._clock.part("ask"):
            engine = self._models.engine(params.sample.engine, expert_dir, params.compute)
            rollouts = sample_expert(
                attempts,
                self._sampler(engine, load_tokenizer(expert_dir)),
                renderer,
                self._sampling,
                params.tabulate.expert,
                params.seed,
                self._progress,
            )
        judged_answers = verify_and_judge(
            [one.problem for one in asked],
            rollouts,
            params.consult,
            params.verification.num_workers,
            journal,
            no_progress,
        )
        return {
            one.rollout.rollout_id: (answer, rollout.response.token_ids)
            for one, answer, rollout in zip(asked, judged_answers, rollouts, strict=True)
        }

    def _label(
        self, judged: Sequence[JudgedRollout], renderer: ContextRenderer
    ) -> tuple[list[FeedbackTableRow], str | None]:
        params = self._params
        with self._clock.part("first label"):
            expert = self._models.expert(
                params, self._policy.expert_dir(params), self._workspace.expert_record_dir
            )
            complaint = None
            try:
                count_without_feedback(renderer, judged, expert.needs_feedback)
            except ConfigError as error:
                complaint = str(error)
            labeller = Labeller(expert, renderer, params.tabulate)
            rows = _rows(labeller, judged[:1])
        with self._clock.part("tabulate"):
            rows += _rows(labeller, judged[1:])
        return rows, complaint

    def _student(self) -> Engine:
        params = self._params
        return self._models.engine(params.sample.engine, self._policy.policy_dir, params.compute)

    def _writing_expert_dir(self) -> Path | None:
        return self._policy.writing_expert_dir(self._params, self._workspace.root)

    @property
    def _sampling(self) -> SamplingSettings:
        sample = self._params.sample
        return SamplingSettings(sample.max_new_tokens, sample.temperature, sample.top_p)


def _rows(labeller: Labeller, judged: Sequence[JudgedRollout]) -> list[FeedbackTableRow]:
    return [row for shard in labeller.shards(judged, no_progress) for row in shard]
