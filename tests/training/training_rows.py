"""Feedback rows made by real tiny models, for tests of training."""

from dataclasses import replace
from typing import Any

import numpy as np

from distil_core.engines.base import SampleRequest, SamplingSettings, ScoreRequest
from distil_core.engines.transformers import TransformersEngine
from distil_core.progress import no_progress
from distil_core.tables.schemas import FEEDBACK, FeedbackTableRow
from distil_core.training.feedback_rows import FeedbackRows

END = 1


def make_rows(new_model: Any) -> FeedbackRows:
    return as_rows(make_table(new_model))


def make_table(new_model: Any) -> list[FeedbackTableRow]:
    """Real rollouts of one model, scored by another in a longer context: 12 problems, 2 each."""
    random = np.random.default_rng(0)
    contexts = [random.integers(3, 90, 5).tolist() for _ in range(12) for _ in range(2)]
    student = TransformersEngine(new_model(0), [END], 8)
    expert = TransformersEngine(new_model(5), [END], 8)
    settings = SamplingSettings(max_new_tokens=6, temperature=1.0, top_p=1.0)
    requests = [SampleRequest(context, seed) for seed, context in enumerate(contexts)]
    responses = student.sample(requests, settings, no_progress)
    scored = expert.score(
        [ScoreRequest([9, 9, *c], r.token_ids) for c, r in zip(contexts, responses, strict=True)],
        8,
        0.99,
        no_progress,
    )
    return [
        FeedbackTableRow(
            rollout_id=f"001/{index // 2}/{index % 2}",
            problem_id=str(index // 2),
            reward=float(index % 3 == 0),
            context_ids=contexts[index],
            expert_context_ids=[9, 9, *contexts[index]],
            response_ids=response.token_ids,
            behaviour_logprobs=response.behaviour_logprobs,
            has_expert=index != 3,
            expert_counts=distribution.counts_t if index != 3 else [],
            expert_ids=distribution.token_ids if index != 3 else [],
            expert_logprobs=distribution.logprobs if index != 3 else [],
            expert_tail_logprobs=distribution.tail_logprobs_t if index != 3 else [],
        )
        for index, (response, distribution) in enumerate(zip(responses, scored, strict=True))
    ]


def with_turns(table: list[FeedbackTableRow]) -> list[FeedbackTableRow]:
    """The same rollouts with tokens of an environment between the policy's: none in every fourth
    row, which stays a single response, and one turn, two or more in the others, with rewards."""
    random = np.random.default_rng(1)
    changed = []
    for index, row in enumerate(table):
        ids, num_tokens = list(row.response_ids), len(row.response_ids)
        num_turns = min(1 + index % 4, num_tokens)
        if index % 4 == 0:
            changed.append(row)
            continue
        ends = sorted(random.choice(num_tokens - 1, num_turns - 1, replace=False) + 1)
        written: list[int] = []
        lengths: list[int] = []
        for start, end in zip([0, *ends], [*ends, num_tokens], strict=True):
            if lengths:
                lengths.append(int(random.integers(0, 4)))
                written += random.integers(3, 90, lengths[-1]).tolist()
            written += ids[start:end]
            lengths.append(int(end - start))
        marked = [turn for turn in range(num_turns) if (turn + index) % 2]
        rewards = [
            None if turn == 1 else (7 * index + 3 * turn) % 5 / 4 for turn in range(num_turns)
        ]
        changed.append(
            replace(
                row,
                response_ids=written,
                turn_lengths=lengths,
                marked_turns=marked,
                turn_rewards=rewards,
            )
        )
    return changed


def as_rows(table: list[FeedbackTableRow]) -> FeedbackRows:
    return FeedbackRows(FEEDBACK.to_table(table), {})
