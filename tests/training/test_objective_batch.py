"""The student's mass on the expert's buckets, against brute force in float64 (3 s)."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor

from distil_core.objectives import OBJECTIVES
from distil_core.training.feedback_rows import FeedbackRow
from distil_core.training.objective_batch import (
    expert_buckets,
    make_labels,
    make_objective_batch,
)
from distil_core.training.student_logprobs import bucket_logprobs, logprobs_of_logits

VOCABULARY = 6


def brute_force(logprobs_btv: Tensor, ids_btk: Tensor) -> np.ndarray:
    """Bucket by bucket with Python's exact sums; NaN where any finite value will do."""
    masses = logprobs_btv.double().exp().numpy()
    batch, length, width = ids_btk.shape
    result = np.full((batch, length, width + 1), np.nan)
    for b in range(batch):
        for t in range(length):
            stored = [int(i) for i in ids_btk[b, t] if int(i) < masses.shape[-1]]
            for k, token in enumerate(ids_btk[b, t].tolist()):
                if token < masses.shape[-1]:
                    result[b, t, k] = math.log(masses[b, t, token])
            rest = [m for token, m in enumerate(masses[b, t]) if token not in stored]
            if rest:
                result[b, t, width] = math.log(math.fsum(rest))
    return result


def random_ids(seed: int, batch: int, length: int, width: int) -> Tensor:
    """Distinct ids at each position, from none to all of the vocabulary, padded."""
    random = np.random.default_rng(seed)
    ids = np.full((batch, length, width), VOCABULARY)
    for position in ids.reshape(-1, width):
        count = random.integers(0, min(width, VOCABULARY) + 1)
        position[:count] = random.permutation(VOCABULARY)[:count]
    return torch.from_numpy(ids)


@given(st.integers(0, 2**31), st.integers(1, 7), st.floats(0.1, 30))
@hypothesis_settings(deadline=None)
def test_buckets_against_brute_force(seed: int, width: int, sharpness: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = sharpness * torch.randn(2, 3, VOCABULARY, generator=generator, dtype=torch.float64)
    logprobs, ids = torch.log_softmax(logits, -1), random_ids(seed, 2, 3, width)
    found = bucket_logprobs(logprobs, ids)
    assert torch.isfinite(found).all()
    expected = brute_force(logprobs, ids)
    read = np.isfinite(expected)
    np.testing.assert_allclose(found.numpy()[read], expected[read], rtol=1e-9, atol=1e-12)


def test_a_tiny_tail_is_exact_in_float32() -> None:
    """As 1 minus the stored mass it would be 0 or worse."""
    logits = torch.tensor([[[0.0, -40.0, -41.0, -60.0, -90.0, -100.0]]])
    logprobs = torch.log_softmax(logits, -1)
    found = bucket_logprobs(logprobs, torch.tensor([[[0]]]))[0, 0, -1].item()
    exact = math.log(sum(math.exp(value) for value in (-40, -41, -60, -90, -100)))
    assert found == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize(
    "ids",
    [
        [[[0, 1], [2, 5]]],
        [[[0, VOCABULARY], [VOCABULARY, VOCABULARY]]],
        [[list(range(VOCABULARY)), [3, 1, 0, 2, 5, 4]]],
        [[[3, 1, 0, 2, 5, 4], [0, *[VOCABULARY] * 5]]],
    ],
    ids=["tail", "padding", "whole vocabulary", "both"],
)
def test_gradients_against_finite_differences(ids: list[list[list[int]]]) -> None:
    ids_btk = torch.tensor(ids)
    logits = torch.randn(1, 2, VOCABULARY, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(1, 2, ids_btk.shape[-1] + 1, dtype=torch.float64)

    def read(logits_btv: Tensor) -> Tensor:
        buckets = bucket_logprobs(torch.log_softmax(logits_btv, -1), ids_btk)
        # As objectives do: an empty tail holds no expert mass and is never read.
        empty = (ids_btk < VOCABULARY).sum(-1) == VOCABULARY
        return (buckets[..., :-1] * weights[..., :-1]).sum() + torch.where(
            empty, 0.0, buckets[..., -1] * weights[..., -1]
        ).sum()

    assert torch.autograd.gradcheck(read, (logits,))


def test_an_empty_tail_gives_no_gradient() -> None:
    logits = torch.randn(1, 1, VOCABULARY, dtype=torch.float64, requires_grad=True)
    ids = torch.arange(VOCABULARY)[None, None]
    buckets = bucket_logprobs(torch.log_softmax(logits, -1), ids)
    assert math.isfinite(buckets[0, 0, -1].item())
    buckets[0, 0, -1].backward()
    assert (logits.grad == 0).all()


def row(name: str, response: list[int], ids: list[list[int]] | None, **changes: Any) -> FeedbackRow:
    """ids: those stored at each position, their masses falling; None for a row without expert."""
    length = len(response)
    masses = [[2.0**-k for k in range(1, len(stored) + 1)] for stored in ids or []]
    values: dict[str, Any] = {
        "rollout_id": name,
        "reward": 0.25,
        "context_ids": np.array([3], np.int32),
        "response_ids_t": np.array(response, np.int32),
        "behaviour_logprobs_t": -np.arange(1, length + 1, dtype=np.float32),
        "has_expert": ids is not None,
        "expert_counts_t": np.array([len(stored) for stored in ids or []], np.int32),
        "expert_ids": np.array([i for stored in ids or [] for i in stored], np.int32),
        "expert_logprobs": np.log(np.array([m for position in masses for m in position], "f4")),
        "expert_tail_logprobs_t": np.array(
            [math.log(1 - sum(p)) if sum(p) < 1 else -math.inf for p in masses], np.float32
        ),
    }
    return FeedbackRow(**{**values, **changes})


RAGGED = [
    row("two", [4, 0], [[4], [1, 2, 3]]),
    row("none", [5, 5, 5], None, reward=1.0),
    row("one", [2], [[0, 1]]),
]


def batch_of(rows: list[FeedbackRow], **options: Any) -> Any:
    length = max(len(row.response_ids_t) for row in rows)
    response_ids = torch.zeros(len(rows), length, dtype=torch.int64)
    for b, row in enumerate(rows):
        response_ids[b, : len(row.response_ids_t)] = torch.from_numpy(row.response_ids_t).long()
    lengths = torch.tensor([[len(row.response_ids_t)] for row in rows])
    mask = torch.arange(length)[None] < lengths
    logits = torch.randn(
        len(rows), length, VOCABULARY, generator=torch.Generator().manual_seed(0), **options
    )
    return from_logits(rows, list(range(len(rows))), logits, mask, response_ids), logits


def from_logits(
    rows: list[FeedbackRow], group_ids: list[int], logits: Tensor, mask: Tensor, ids: Tensor
) -> Any:
    buckets = expert_buckets(rows, ids.shape[1], logits.shape[-1])
    student = logprobs_of_logits(logits, ids, buckets[0])
    return make_objective_batch(make_labels(rows, group_ids, buckets, mask, ids), student)


def test_ragged_rows_are_padded_so_that_nothing_of_the_padding_counts() -> None:
    batch, logits = batch_of(RAGGED)
    inf = math.inf
    expected_masses = [
        [[0.5, 0, 0, 0.5], [0.5, 0.25, 0.125, 0.125], [0, 0, 0, 0]],
        [[0, 0, 0, 0]] * 3,
        [[0.5, 0.25, 0, 0.25], [0, 0, 0, 0], [0, 0, 0, 0]],
    ]
    torch.testing.assert_close(
        batch.expert_bucket_logprobs_btk.exp(), torch.tensor(expected_masses)
    )
    assert batch.expert_mask_b.tolist() == [True, False, True]
    assert batch.rewards_b.tolist() == [0.25, 1.0, 0.25]
    assert batch.group_ids_b.tolist() == [0, 1, 2]
    assert batch.behaviour_logprobs_bt.tolist() == [[-1, -2, 0], [-1, -2, -3], [-1, 0, 0]]
    # The bucket of y_t: its stored id, else the tail, which is bucket 3.
    assert batch.sampled_buckets_bt[0, :2].tolist() == [0, 3]
    assert batch.sampled_buckets_bt[2, 0].item() == 3
    logprobs = torch.log_softmax(logits, -1)
    assert batch.sampled_logprobs_bt[0, 0] == logprobs[0, 0, 4]
    assert batch.sampled_logprobs_bt[1, 2] == logprobs[1, 2, 5]
    assert torch.isfinite(batch.student_bucket_logprobs_btk).all()
    assert batch.student_bucket_logprobs_btk.shape == (3, 3, 4)
    assert -inf not in batch.sampled_logprobs_bt


@pytest.mark.parametrize("name", ["forward_cross_entropy", "reverse_kl", "jensen_shannon", "grpo"])
def test_each_row_gives_what_it_gives_alone(name: str) -> None:
    """Through a real objective: neither padding nor other rows reach a row's token losses."""
    objective = OBJECTIVES.build(name, {"baseline": "none"} if name.startswith("forward") else {})
    together, logits = batch_of(RAGGED)
    losses = objective(together).per_token_loss_bt
    for b, row in enumerate(RAGGED):
        length = len(row.response_ids_t)
        alone = from_logits(
            [row],
            [b],
            logits[b : b + 1, :length],
            torch.ones(1, length, dtype=torch.bool),
            torch.from_numpy(row.response_ids_t).long()[None],
        )
        torch.testing.assert_close(objective(alone).per_token_loss_bt[0], losses[b, :length])
        assert (losses[b, length:] == 0).all()


def test_the_tables_cross_entropy_is_that_of_the_definition() -> None:
    """H(T, pi) with the tail as one bucket, by hand in float64."""
    batch, logits = batch_of(RAGGED)
    objective = OBJECTIVES.build("forward_cross_entropy", {"weight": 0.0})
    found = objective(batch).per_token_loss_bt
    student = torch.softmax(logits.double(), -1)[0, 1]
    expert = {1: 0.5, 2: 0.25, 3: 0.125}
    tail = sum(student[token] for token in (0, 4, 5))
    exact = -sum(mass * math.log(student[token]) for token, mass in expert.items())
    exact -= 0.125 * math.log(tail)
    ratio = student[0].item() / math.exp(-2)
    assert found[0, 1].item() == pytest.approx(exact * min(ratio, 2.0), rel=1e-5)


def test_a_batch_without_any_expert() -> None:
    rows = [RAGGED[1], row("none too", [1], None)]
    batch, _ = batch_of(rows, requires_grad=True)
    assert batch.expert_bucket_logprobs_btk.shape == (2, 3, 2)
    output = OBJECTIVES.build("forward_cross_entropy", {})(batch)
    output.loss.backward()
    assert output.loss.item() == 0


def test_an_expert_that_stores_no_id_at_all() -> None:
    """All its mass in the tail: says nothing about which token."""
    batch, _ = batch_of([row("tail only", [1, 2], [[], []])])
    assert batch.expert_bucket_logprobs_btk.exp().tolist() == [[[0.0, 1.0], [0.0, 1.0]]]


def test_half_precision_logits_are_widened_first() -> None:
    batch, logits = batch_of(RAGGED, dtype=torch.bfloat16)
    assert batch.sampled_logprobs_bt.dtype == torch.float32
    exact = torch.log_softmax(logits.double(), -1)[0, 0, 4].item()
    assert batch.sampled_logprobs_bt[0, 0].item() == pytest.approx(exact, rel=1e-6)
