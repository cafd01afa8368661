"""The student's rollouts: requests for the engine, and what came of them as table rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distil_core.engines.base import SampleRequest
from distil_core.environments.base import Step
from distil_core.problems.base import Problem
from distil_core.rollouts.sampled import SampledRollout, SampledTurn
from distil_core.seeds import derive_seed
from distil_core.tables.schemas import RolloutRow, TurnRow
from distil_core.workspace import iteration_key


@dataclass(frozen=True)
class PlannedRollout:
    """One rollout to sample. sample_index: its number among its problem's rollouts."""

    problem: Problem
    sample_index: int
    request: SampleRequest


def plan_rollouts(
    iteration: int,
    problems: Sequence[Problem],
    num_rollouts: int,
    contexts: Mapping[str, Sequence[int]],
    seed: int,
) -> list[PlannedRollout]:
    """`num_rollouts` rollouts of each problem, group after group. contexts: the student's, as token
    ids, by problem id. seed: the campaign's, from which each rollout's own is derived."""
    return [
        PlannedRollout(
            problem,
            index,
            SampleRequest(
                contexts[problem.problem_id],
                derive_seed(seed, iteration, "sample", problem.problem_id, index),
            ),
        )
        for problem in problems
        for index in range(num_rollouts)
    ]


def rollout_rows(
    iteration: int, planned: Sequence[PlannedRollout], rollouts: Sequence[SampledRollout]
) -> list[RolloutRow]:
    """The rollouts as rows, in the order of the plan."""
    return [
        RolloutRow(
            rollout_id=f"{iteration_key(iteration)}/{one.problem.problem_id}/{one.sample_index}",
            problem_id=one.problem.problem_id,
            sample_index=one.sample_index,
            seed=one.request.seed,
            context_ids=one.request.context_ids,
            response_ids=rollout.token_ids,
            behaviour_logprobs=rollout.response.behaviour_logprobs,
            finish_reason=rollout.response.finish_reason,
            response=rollout.answer,
            error=rollout.error,
            turns=tuple(map(_turn_row, rollout.turns)) if rollout.has_steps else (),
        )
        for one, rollout in zip(planned, rollouts, strict=True)
    ]


def _turn_row(turn: SampledTurn) -> TurnRow:
    step = turn.step or Step(None)
    return TurnRow(
        num_tokens=len(turn.response.token_ids),
        num_observation_tokens=len(turn.observation_ids),
        finish_reason=turn.response.finish_reason,
        action=turn.action,
        observation=turn.observation,
        reward=step.reward,
        verdict=step.verdict,
        feedback=step.feedback,
        is_marked=step.is_marked,
        isolation=step.isolation,
    )
