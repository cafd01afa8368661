"""Make a feedback table from judged rollouts and an expert's distributions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from distil_core.config.models import TabulateParams
from distil_core.engines.base import ScoredResponse
from distil_core.errors import ConfigError, DataError
from distil_core.experts.base import Expert, ExpertAnswer, ExpertQuery
from distil_core.feedback.compose import fields_of
from distil_core.feedback.contexts import ContextRenderer, RenderedContext
from distil_core.problems.base import Problem
from distil_core.problems.messages import prompt_of
from distil_core.progress import ProgressCallback, no_progress
from distil_core.tables.rounding import round_distributions
from distil_core.tables.schemas import (
    ConsultationRow,
    ContinuationRow,
    FeedbackItem,
    FeedbackTableRow,
    RolloutRow,
)


@dataclass(frozen=True)
class JudgedRollout:
    """A rollout with its consultation and the expert's context."""

    rollout: RolloutRow
    reward: float
    feedback: tuple[FeedbackItem, ...]
    problem: Problem
    context: RenderedContext


def judged_rollouts(
    rollouts: Sequence[RolloutRow],
    consultations: Sequence[ConsultationRow],
    problems: Mapping[str, Problem],
    renderer: ContextRenderer,
) -> list[JudgedRollout]:
    """The rollouts that have a verdict. problems: by id. Raises `DataError` where the consultations
    are of other rollouts, or none has a verdict."""
    if [one.rollout_id for one in rollouts] != [one.rollout_id for one in consultations]:
        raise DataError(
            f"consultations are not of these rollouts ({len(consultations)} and {len(rollouts)} "
            "rows, or another order): run consult again"
        )
    judged = []
    for rollout, consultation in zip(rollouts, consultations, strict=True):
        if consultation.reward is None:
            continue
        problem = problems[rollout.problem_id]
        feedback = consultation.feedback
        context = renderer.expert(
            prompt_of(problem),
            rollout.response,
            consultation.verdict,
            feedback,
            rollout.rollout_id,
        )
        judged.append(JudgedRollout(rollout, consultation.reward, feedback, problem, context))
    if not judged:
        raise DataError(
            f"none of {len(rollouts)} rollouts has a verdict; the first error is: "
            f"{consultations[0].error}"
        )
    return judged


def count_without_feedback(
    renderer: ContextRenderer, judged: Sequence[JudgedRollout], needs_feedback: bool
) -> int:
    """The number of rollouts whose expert context has no feedback. needs_feedback: the expert's.

    Raises `ConfigError` where there is feedback but the template uses none of it: every row would
    be masked out, and training would silently change nothing.
    """
    num_without = sum(not renderer.has_feedback(one.feedback) for one in judged)
    said = (item for one in judged for item in renderer.worded(one.feedback))
    kinds = sorted({item.kind for item in said if item.text})
    if needs_feedback and num_without == len(judged) and kinds:
        fields = ", ".join(f"{{{name}}}" for name in sorted(fields_of(renderer.expert_template)))
        raise ConfigError(
            f"the tools gave feedback of kind {', '.join(kinds)}, but context.expert_template "
            f"takes none of it: name it there in braces; its fields are {fields}"
        )
    return num_without


class Labeller:
    """Has an expert label rollouts, shard after shard.

    continuations: what the expert wrote itself, for the shards so far.
    """

    def __init__(
        self,
        expert: Expert,
        renderer: ContextRenderer,
        params: TabulateParams,
    ):
        self._expert = expert
        self._renderer = renderer
        self._params = params
        self.continuations: list[ContinuationRow] = []

    def shards(
        self, judged: Sequence[JudgedRollout], progress: ProgressCallback
    ) -> Iterator[list[FeedbackTableRow]]:
        """The table's rows. A rollout about which the expert has nothing to say is a row without
        expert."""
        size = self._params.rows_per_shard
        for start in range(0, len(judged), size):
            shard = judged[start : start + size]
            queries = [self._query(one) for one in shard]
            answers = iter(self._expert.answer([query for query in queries if query], no_progress))
            rows = []
            for one, query in zip(shard, queries, strict=True):
                answer = next(answers) if query else None
                # Asked, but without a usable answer at any state: the row has no expert.
                if answer and answer.distribution.is_silent:
                    answer = None
                if answer and self._params.storage == "compact":
                    answer = _rounded(answer)
                rows.append(self._row(one, answer))
                if answer:
                    self.continuations += _continuation_rows(one.rollout, answer)
            yield rows
            progress(min(start + size, len(judged)), len(judged))

    def _query(self, one: JudgedRollout) -> ExpertQuery | None:
        if self._expert.needs_feedback and not self._renderer.has_feedback(one.feedback):
            return None
        return ExpertQuery(
            context_ids=one.context.token_ids,
            response_ids=one.rollout.response_ids,
            rollout_id=one.rollout.rollout_id,
            problem=one.problem,
            values=one.context.values,
        )

    def _row(self, one: JudgedRollout, answer: ExpertAnswer | None) -> FeedbackTableRow:
        rollout = one.rollout
        if answer and answer.context_ids:
            # The student's tokens follow both contexts, which must end in the same token.
            self._renderer.require_same_ending(rollout.context_ids, answer.context_ids)
        return FeedbackTableRow(
            rollout_id=rollout.rollout_id,
            problem_id=rollout.problem_id,
            reward=one.reward,
            context_ids=rollout.context_ids,
            expert_context_ids=answer.context_ids if answer else [],
            response_ids=rollout.response_ids,
            behaviour_logprobs=rollout.behaviour_logprobs,
            has_expert=answer is not None,
            **_distribution(answer.distribution if answer else None),
        )


def _continuation_rows(rollout: RolloutRow, answer: ExpertAnswer) -> list[ContinuationRow]:
    return [
        ContinuationRow(
            rollout_id=rollout.rollout_id,
            problem_id=rollout.problem_id,
            context_ids=[*rollout.context_ids, *rollout.response_ids[: continuation.position]],
            response_ids=continuation.token_ids,
            **_distribution(continuation.distribution),
        )
        for continuation in answer.continuations
    ]


def _distribution(scored: ScoredResponse | None) -> dict[str, Any]:
    return {
        "expert_counts": scored.counts_t if scored else [],
        "expert_ids": scored.token_ids if scored else [],
        "expert_logprobs": scored.logprobs if scored else [],
        "expert_tail_logprobs": scored.tail_logprobs_t if scored else [],
    }


def _rounded(answer: ExpertAnswer) -> ExpertAnswer:
    return replace(
        answer,
        distribution=_round(answer.distribution),
        continuations=tuple(
            replace(continuation, distribution=_round(continuation.distribution))
            for continuation in answer.continuations
        ),
    )


def _round(scored: ScoredResponse) -> ScoredResponse:
    logprobs, tail_logprobs_t = round_distributions(
        np.asarray(scored.counts_t),
        np.asarray(scored.logprobs, np.float32),
        np.asarray(scored.tail_logprobs_t, np.float32),
    )
    return replace(scored, logprobs=logprobs, tail_logprobs_t=tail_logprobs_t)
