"""Batches for tests: random ones of every awkward shape, and the hypothesis strategy over them."""

import math
from dataclasses import replace
from typing import Any

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from distil_core.objectives.base import ObjectiveBatch

# The machine is shared, so no deadline per example; the same examples in every run.
examples = settings(deadline=None, max_examples=100, derandomize=True)


def random_batch(
    seed: int = 0,
    *,
    rows: int = 5,
    positions: int = 6,
    tokens: int = 4,
    padding_buckets: int = 1,
    dtype: torch.dtype = torch.float64,
) -> ObjectiveBatch:
    """Ragged lengths (0 included), groups of several sizes, rows without an expert, holes in the
    mask, expert zeros, an empty tail on some positions, a silent expert on some, stale samplers."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def chance(probability: float, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator) < probability

    shape = (rows, positions, tokens + 1)
    student_btk = torch.log_softmax(normal(*shape), dim=-1)
    expert_logits_btk = 2 * normal(*shape)
    expert_logits_btk = expert_logits_btk.masked_fill(chance(0.2, *shape), -torch.inf)
    expert_logits_btk[..., 0] = normal(rows, positions)
    expert_btk = torch.log_softmax(expert_logits_btk, dim=-1)
    expert_btk = expert_btk.masked_fill(chance(0.15, rows, positions)[..., None], -torch.inf)
    buckets_bt = torch.randint(0, tokens + 1, (rows, positions), generator=generator)
    sampled_bt = student_btk.gather(-1, buckets_bt[..., None])[..., 0]
    # Padding buckets lie between the stored ids and the tail, the student's value arbitrary.
    padding_shape = (rows, positions, padding_buckets)
    lengths_b = torch.randint(0, positions + 1, (rows,), generator=generator)
    mask_bt = torch.arange(positions)[None] < lengths_b[:, None]
    buckets_bt = torch.where(buckets_bt == tokens, tokens + padding_buckets, buckets_bt)
    return ObjectiveBatch(
        student_bucket_logprobs_btk=_with_padding(student_btk, 3 * normal(*padding_shape), dtype),
        expert_bucket_logprobs_btk=_with_padding(
            expert_btk, torch.full(padding_shape, -torch.inf), dtype
        ),
        sampled_logprobs_bt=sampled_bt.to(dtype),
        behaviour_logprobs_bt=(sampled_bt + 0.7 * normal(rows, positions)).to(dtype),
        response_mask_bt=mask_bt & ~chance(0.15, rows, positions),
        expert_mask_b=~chance(0.25, rows),
        rewards_b=torch.rand(rows, generator=generator, dtype=torch.float64).to(dtype),
        group_ids_b=torch.randint(0, 3, (rows,), generator=generator),
        sampled_buckets_bt=buckets_bt,
    )


def everyone_trains(batch: ObjectiveBatch) -> ObjectiveBatch:
    """The same batch with every token trained and every row with an expert."""
    return replace(
        batch,
        response_mask_bt=torch.ones_like(batch.response_mask_bt),
        expert_mask_b=torch.ones_like(batch.expert_mask_b),
    )


def with_leaves(batch: ObjectiveBatch) -> tuple[ObjectiveBatch, Tensor, Tensor]:
    """The batch with fresh leaves that require grad: (batch, student buckets, sampled)."""
    student = batch.student_bucket_logprobs_btk.detach().clone().requires_grad_(True)
    sampled = batch.sampled_logprobs_bt.detach().clone().requires_grad_(True)
    leaves = replace(batch, student_bucket_logprobs_btk=student, sampled_logprobs_bt=sampled)
    return leaves, student, sampled


def select_rows(batch: ObjectiveBatch, rows: Tensor) -> ObjectiveBatch:
    """The batch of these rows, in this order."""
    fields: dict[str, Any] = {
        name: None if value is None else value[rows] for name, value in vars(batch).items()
    }
    return ObjectiveBatch(**fields)


@st.composite
def batches(draw: st.DrawFn) -> ObjectiveBatch:
    """Random batches in float64, the empty and the single-row ones among them."""
    return random_batch(
        draw(st.integers(0, 2**31)),
        rows=draw(st.integers(1, 6)),
        positions=draw(st.integers(1, 7)),
        tokens=draw(st.integers(1, 4)),
        padding_buckets=draw(st.integers(0, 2)),
    )


@st.composite
def any_options(draw: st.DrawFn) -> dict[str, Any]:
    """Options of `forward_cross_entropy` from every corner."""
    normalisation = draw(st.sampled_from(["rollouts", "tokens", "constant"]))
    return {
        "weight": draw(st.sampled_from([0.0, 0.3, 1.0, 2.5])),
        "discount": draw(st.sampled_from([0.0, 0.7, 1.0])),
        "horizon": draw(st.sampled_from([None, 1, 2, 3, 100])),
        "cost": draw(st.sampled_from(["cross_entropy", "kl_divergence"])),
        "baseline": draw(st.sampled_from(["none", "group_mean", "leave_one_out"])),
        "advantage_normalisation": draw(st.sampled_from(["none", "standard_deviation"])),
        "is_clip": draw(st.sampled_from([0.5, 2.0, math.inf])),
        "loss_normalisation": normalisation,
        "loss_constant": 7.0 if normalisation == "constant" else None,
    }


def _with_padding(values_btk: Tensor, padding_btk: Tensor, dtype: torch.dtype) -> Tensor:
    parts = (values_btk[..., :-1], padding_btk, values_btk[..., -1:])
    return torch.cat(parts, dim=-1).to(dtype)
