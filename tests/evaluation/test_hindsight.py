"""Losses of policies on tables against plain sums, and regret by hand (2 s)."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from distil_core.evaluation.hindsight import average_regrets, token_costs
from distil_core.training.feedback_rows import FeedbackRow

VOCABULARY = 5


class Bigram:
    """A model whose next token depends on the last one only."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        random = torch.Generator().manual_seed(3)
        self.logits = torch.randn(VOCABULARY, VOCABULARY, generator=random)

    def __call__(self, input_ids: Any, logits_to_keep: int, **_: Any) -> Any:
        return SimpleNamespace(logits=self.logits[input_ids[:, -logits_to_keep:]])

    def get_output_embeddings(self) -> Any:
        return SimpleNamespace(weight=self.logits)


def make_row(length: int, has_expert: bool = True) -> tuple[FeedbackRow, np.ndarray[Any, Any]]:
    """A row whose expert has all of its mass on stored ids, and that mass in full."""
    random = np.random.default_rng(length)
    mass_tv = random.dirichlet(np.ones(VOCABULARY), size=length)
    order_tv = np.argsort(-mass_tv, axis=1)
    row = FeedbackRow(
        rollout_id=f"r{length}",
        reward=0.0,
        context_ids=np.array([1, 2], dtype=np.int32),
        response_ids_t=random.integers(0, VOCABULARY, length).astype(np.int32),
        behaviour_logprobs_t=np.zeros(length, dtype=np.float32),
        has_expert=has_expert,
        expert_counts_t=np.full(length, VOCABULARY, dtype=np.int32),
        expert_ids=order_tv.astype(np.int32).ravel(),
        expert_logprobs=np.log(np.take_along_axis(mass_tv, order_tv, 1)).astype(np.float32).ravel(),
        expert_tail_logprobs_t=np.full(length, -np.inf, dtype=np.float32),
    )
    return row, mass_tv


def test_costs_against_plain_sums() -> None:
    model: Any = Bigram()
    made = [make_row(length) for length in (4, 2, 3)]
    found = token_costs(model, [row for row, _ in made], batch_size=2)
    logprobs = torch.log_softmax(model.logits.double(), -1).numpy()
    for (row, mass_tv), costs in zip(made, found, strict=True):
        before = [2, *row.response_ids_t[:-1].tolist()]
        expected = [
            sum(p * (math.log(p) - logprobs[token, v]) for v, p in enumerate(mass_t))
            for token, mass_t in zip(before, mass_tv, strict=True)
        ]
        np.testing.assert_allclose(costs.disagreement_t, expected, atol=1e-5)
        to_come = [sum(expected[t + 1 :]) for t in range(len(expected))]
        np.testing.assert_allclose(costs.future_credit_t, to_come, atol=1e-5)


def test_a_row_without_expert_costs_nothing() -> None:
    model: Any = Bigram()
    row, _ = make_row(3, has_expert=False)
    (costs,) = token_costs(model, [row])
    assert not costs.disagreement_t.any()
    assert not costs.future_credit_t.any()


def test_regret_by_hand() -> None:
    losses_ji = np.array([[5.0, 9.0], [1.0, 4.0], [2.0, 1.0]])
    # After table 1: 5 - best of (5, 1, 2). After both: (5 + 4) / 2 - best mean, policy 2's 1.5.
    assert average_regrets(losses_ji, [0, 1]) == pytest.approx([4.0, 3.0])
    assert average_regrets(np.zeros((1, 0)), []) == []


def test_regret_counts_the_policy_that_really_made_a_table() -> None:
    losses_ji = np.array([[5.0, 9.0], [1.0, 4.0], [2.0, 1.0]])
    # The base made both tables: (5 + 9) / 2 - 1.5.
    assert average_regrets(losses_ji, [0, 0]) == pytest.approx([4.0, 5.5])


def test_regret_vanishes_for_one_policy_that_is_best_everywhere() -> None:
    assert average_regrets(np.ones((4, 3)), [0, 1, 2]) == [0.0, 0.0, 0.0]
