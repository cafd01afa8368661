"""Random batches of every awkward shape, for tests of objectives."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from distil_core.objectives.base import ObjectiveBatch


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


def _with_padding(values_btk: Tensor, padding_btk: Tensor, dtype: torch.dtype) -> Tensor:
    parts = (values_btk[..., :-1], padding_btk, values_btk[..., -1:])
    return torch.cat(parts, dim=-1).to(dtype)
