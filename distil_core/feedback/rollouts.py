"""The student's rollouts: requests for the engine, and its responses as table rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distil_core.engines.base import SampledResponse, SampleRequest
from distil_core.policy.tokenizer import decode
from distil_core.problems.base import Problem
from distil_core.seeds import derive_seed
from distil_core.tables.schemas import RolloutRow
from distil_core.workspace import iteration_key

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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
    iteration: int,
    planned: Sequence[PlannedRollout],
    responses: Sequence[SampledResponse],
    tokenizer: PreTrainedTokenizerBase,
) -> list[RolloutRow]:
    """The engine's responses as rows, in the order of the plan."""
    return [
        RolloutRow(
            rollout_id=f"{iteration_key(iteration)}/{one.problem.problem_id}/{one.sample_index}",
            problem_id=one.problem.problem_id,
            sample_index=one.sample_index,
            seed=one.request.seed,
            context_ids=one.request.context_ids,
            response_ids=response.token_ids,
            behaviour_logprobs=response.behaviour_logprobs,
            finish_reason=response.finish_reason,
            response=decode(tokenizer, response.token_ids),
            error=response.error,
        )
        for one, response in zip(planned, responses, strict=True)
    ]
