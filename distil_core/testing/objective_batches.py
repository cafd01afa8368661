"""Random batches of every awkward shape, for tests of objectives."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from distil_core.objectives.base import ObjectiveBatch
from distil_core.objectives.estimators.turn_rewards import BatchOfTurnRewards
from distil_core.objectives.estimators.turns import BatchOfTurns


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


def with_random_turns(batch: ObjectiveBatch, seed: int) -> BatchOfTurnRewards:
    """The batch as one of rollouts in an environment: turns of one token or more, some of which
    have rewards."""
    generator = torch.Generator().manual_seed(seed)
    shape = batch.response_mask_bt.shape
    begins_bt = torch.rand(shape, generator=generator) < 0.4
    begins_bt[:, :1] = False
    turns_bt = begins_bt.long().cumsum(1)
    # A row of which nothing trains was cut, and has turns all the same.
    last_b = torch.where(batch.response_mask_bt, turns_bt, 0).amax(1)
    last_b = torch.where(batch.response_mask_bt.any(1), last_b, turns_bt[:, -1])
    turns_bt = turns_bt.minimum(last_b[:, None])
    numbers_n = torch.arange(int(last_b.max()) + 1)
    rewards_bn = torch.rand(
        len(last_b), len(numbers_n), generator=generator, dtype=torch.float64
    ).to(batch.rewards_b.dtype)
    given_bn = torch.rand(rewards_bn.shape, generator=generator) < 0.7
    return BatchOfTurnRewards(
        **vars(batch),
        turn_ids_bt=turns_bt,
        turn_rewards_bn=torch.where(given_bn & (numbers_n <= last_b[:, None]), rewards_bn, 0.0),
        num_turns_b=last_b + 1,
    )


def without_holes(batch: ObjectiveBatch) -> ObjectiveBatch:
    """The batch with all tokens up to a row's last one trained."""
    backwards_bt = batch.response_mask_bt.flip(1).long().cumsum(1).flip(1)
    return replace(batch, response_mask_bt=backwards_bt > 0)


def with_more_padding(batch: BatchOfTurns) -> BatchOfTurns:
    """The same rows in a wider batch, beside longer ones: whatever stands on padding is another
    number, NaN where any is allowed."""
    mask_bt = batch.response_mask_bt
    assert batch.turn_ids_bt is not None

    def wider_bt(values_bt: Tensor, filler: float) -> Tensor:
        inside = mask_bt.reshape(*mask_bt.shape, *[1] * (values_bt.dim() - 2))
        filled = torch.where(inside, values_bt, torch.tensor(filler, dtype=values_bt.dtype))
        column = torch.full_like(filled[:, :1], filler)
        return torch.cat([filled, column, column], dim=1)

    values = {
        name: wider_bt(getattr(batch, name), torch.nan)
        for name in (
            "student_bucket_logprobs_btk",
            "expert_bucket_logprobs_btk",
            "sampled_logprobs_bt",
            "behaviour_logprobs_bt",
        )
    }
    buckets_bt = batch.sampled_buckets_bt
    wider = replace(
        batch,
        **values,
        response_mask_bt=wider_bt(mask_bt, False),
        sampled_buckets_bt=None if buckets_bt is None else wider_bt(buckets_bt, 0),
        turn_ids_bt=wider_bt(batch.turn_ids_bt, int(batch.turn_ids_bt.max()) + 2),
    )
    if not isinstance(wider, BatchOfTurnRewards) or wider.turn_rewards_bn is None:
        return wider
    return replace(wider, turn_rewards_bn=torch.nn.functional.pad(wider.turn_rewards_bn, (0, 2)))


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
    return type(batch)(**fields)


def _with_padding(values_btk: Tensor, padding_btk: Tensor, dtype: torch.dtype) -> Tensor:
    parts = (values_btk[..., :-1], padding_btk, values_btk[..., -1:])
    return torch.cat(parts, dim=-1).to(dtype)
