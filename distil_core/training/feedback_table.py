"""Make a feedback table from judged rollouts and an expert's distributions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from distil_core.config.models import TabulateParams
from distil_core.engines.base import ScoredResponse
from distil_core.errors import ConfigError, DataError
from distil_core.experts._turn_query import TurnQuery
from distil_core.experts.base import Expert, ExpertAnswer, ExpertQuery
from distil_core.feedback.compose import fields_of
from distil_core.feedback.contexts import ContextRenderer, RenderedContext
from distil_core.feedback.transcript import attempt_text, feedback_on
from distil_core.problems.base import Problem
from distil_core.problems.messages import prompt_of
from distil_core.problems.turns import turns_so_far
from distil_core.progress import ProgressCallback, no_progress
from distil_core.tables.rounding import round_distributions
from distil_core.tables.schemas import (
    ConsultationRow,
    ContinuationRow,
    FeedbackItem,
    FeedbackTableRow,
    RolloutRow,
)
from distil_core.tables.turns import turn_lengths, turn_rewards


@dataclass(frozen=True)
class JudgedRollout:
    """A rollout with its consultation and what the expert reads at the states of each turn; a
    single response is one turn. feedback: on the whole rollout."""

    rollout: RolloutRow
    reward: float
    feedback: tuple[FeedbackItem, ...]
    problem: Problem
    turns: tuple["ReadTurn", ...]

    @property
    def context(self) -> RenderedContext:
        """The expert's at the last turn's states."""
        return self.turns[-1].context


@dataclass(frozen=True)
class ReadTurn:
    """What the expert reads at the states of one turn: the feedback, and the context with it.

    start, stop: which of the rollout's tokens the policy wrote in this turn.
    """

    feedback: tuple[FeedbackItem, ...]
    context: RenderedContext
    start: int
    stop: int


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
        turns = tuple(_read_turns(rollout, consultation, problem, renderer))
        judged.append(
            JudgedRollout(rollout, consultation.reward, turns[-1].feedback, problem, turns)
        )
    if not judged:
        raise DataError(
            f"none of {len(rollouts)} rollouts has a verdict; the first error is: "
            f"{consultations[0].error}"
        )
    return judged


def _read_turns(
    rollout: RolloutRow,
    consultation: ConsultationRow,
    problem: Problem,
    renderer: ContextRenderer,
) -> Iterator[ReadTurn]:
    """Each turn as the expert reads it. With `expert_sees: past`, a turn before the last is read as
    if the rollout ended with it, and had no verdict yet."""
    params = renderer.params

    def context(
        num_turns: int | None, verdict: str, feedback: Sequence[FeedbackItem]
    ) -> RenderedContext:
        attempt = attempt_text(rollout, params, num_turns)
        return renderer.expert(prompt_of(problem), attempt, verdict, feedback, rollout.rollout_id)

    whole = feedback_on(rollout, consultation)
    in_hindsight = context(None, consultation.verdict, whole)
    if not rollout.turns or params.environment is None:
        yield ReadTurn(whole, in_hindsight, 0, len(rollout.response_ids))
        return
    start = 0
    for number, turn in enumerate(rollout.turns, start=1):
        stop = start + turn.num_tokens
        if params.environment.expert_sees == "hindsight" or number == len(rollout.turns):
            yield ReadTurn(whole, in_hindsight, start, stop)
        else:
            so_far = feedback_on(rollout, None, number)
            yield ReadTurn(so_far, context(number, "", so_far), start, stop)
        start = stop + turn.num_observation_tokens


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
            queries = [list(self._queries(one)) for one in shard]
            asked = [query for of_row in queries for query in of_row if query]
            answers = iter(self._expert.answer(asked, no_progress))
            rows = []
            for one, of_row in zip(shard, queries, strict=True):
                found = [self._usable(next(answers)) if query else None for query in of_row]
                rows.append(self._row(one, found))
                for turn, answer in zip(one.turns, found, strict=True):
                    if answer:
                        self.continuations += _continuation_rows(one.rollout, turn, answer)
            yield rows
            progress(min(start + size, len(judged)), len(judged))

    def _queries(self, one: JudgedRollout) -> Iterator[ExpertQuery | None]:
        """One a turn, whose tokens are asked about in the expert's own context, which all that came
        before in the rollout follows. None where the expert has nothing to say."""
        response_ids = one.rollout.response_ids
        so_far = turns_so_far(one.rollout.turns)
        for number, turn in enumerate(one.turns):
            if self._expert.needs_feedback and not self._renderer.has_feedback(turn.feedback):
                yield None
                continue
            yield TurnQuery(
                context_ids=[*turn.context.token_ids, *response_ids[: turn.start]],
                response_ids=response_ids[turn.start : turn.stop],
                rollout_id=one.rollout.rollout_id,
                problem=one.problem,
                values=turn.context.values,
                turns=so_far[:number],
            )

    def _usable(self, answer: ExpertAnswer) -> ExpertAnswer | None:
        """None where the expert was asked, but has no usable answer at any state."""
        if answer.distribution.is_silent:
            return None
        return _rounded(answer) if self._params.storage == "compact" else answer

    def _row(self, one: JudgedRollout, answers: Sequence[ExpertAnswer | None]) -> FeedbackTableRow:
        rollout = one.rollout
        context_ids: Sequence[int] = []
        for turn, answer in zip(one.turns, answers, strict=True):
            if answer and answer.context_ids:
                # What it read before the rollout's own tokens; of the last turn it spoke about.
                context_ids = answer.context_ids[: len(answer.context_ids) - turn.start]
                # The student's tokens follow both contexts, which must end in the same token.
                self._renderer.require_same_ending(rollout.context_ids, context_ids)
        return FeedbackTableRow(
            rollout_id=rollout.rollout_id,
            problem_id=rollout.problem_id,
            reward=one.reward,
            context_ids=rollout.context_ids,
            expert_context_ids=context_ids,
            response_ids=rollout.response_ids,
            behaviour_logprobs=rollout.behaviour_logprobs,
            has_expert=any(answers),
            **_distribution(_joined(one.turns, answers)),
            turn_lengths=turn_lengths(rollout.turns),
            marked_turns=[number for number, turn in enumerate(rollout.turns) if turn.is_marked],
            turn_rewards=turn_rewards(rollout.turns),
        )


def _joined(
    turns: Sequence[ReadTurn], answers: Sequence[ExpertAnswer | None]
) -> ScoredResponse | None:
    """The distributions at the policy's tokens of all turns; None where there are none. At a turn
    about which the expert said nothing it is silent."""
    if not any(answers):
        return None
    parts = [
        answer.distribution if answer else ScoredResponse.silent(turn.stop - turn.start)
        for turn, answer in zip(turns, answers, strict=True)
    ]
    if len(parts) == 1:
        return parts[0]
    return ScoredResponse(
        *(
            np.concatenate([np.asarray(getattr(part, name)) for part in parts])
            for name in ("counts_t", "token_ids", "logprobs", "tail_logprobs_t")
        )
    )


def _continuation_rows(
    rollout: RolloutRow, turn: ReadTurn, answer: ExpertAnswer
) -> list[ContinuationRow]:
    return [
        ContinuationRow(
            rollout_id=rollout.rollout_id,
            problem_id=rollout.problem_id,
            context_ids=[
                *rollout.context_ids,
                *rollout.response_ids[: turn.start + continuation.position],
            ],
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
