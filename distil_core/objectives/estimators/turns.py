"""Rollouts of several turns: which turn each token is of, and credit and baselines that read it.

Only the policy's tokens are positions of a batch, one after another: what an environment wrote
between two turns is none (docs/method.md#turns).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from distil_core.objectives.base import ObjectiveBatch
from distil_core.objectives.estimators.as_sampled import BatchAsSampled
from distil_core.objectives.estimators.credit import Baseline, group_baseline_bt


@dataclass(frozen=True)
class BatchOfTurns(BatchAsSampled):
    """Of rollouts in an environment.

    turn_ids_bt: int64. The turn that each token is of, from 0, rising along a row; 0 in rows of a
        single response.
    """

    turn_ids_bt: Tensor | None = None


def turn_ids_bt(batch: ObjectiveBatch) -> Tensor:
    """The turn of each token; 0 where the rollouts are single responses; [B, T]."""
    if isinstance(batch, BatchOfTurns) and batch.turn_ids_bt is not None:
        return batch.turn_ids_bt
    return torch.zeros_like(batch.response_mask_bt, dtype=torch.int64)


def future_sum_by_turn_bt(
    costs_bt: Tensor, turns_bt: Tensor, discount: float, horizon: int | None
) -> Tensor:
    """C_t = sum of discount^(turn_k - turn_t) * costs_k over t < k <= t + horizon; [B, T], no
    gradient.

    The rest of its own turn counts whole, the next turn `discount` times, and so on; 0 keeps the
    own turn. horizon: number of positions, at least 1; None counts to the end. Computed by doubling
    windows, as `discounted_future_sum_bt`.
    """
    length = costs_bt.shape[1]
    remaining = length if horizon is None else min(horizon, length)
    # The window of t has the costs after t, as they count for t's own turn.
    window_bt, window_size = _faded_bt(costs_bt.detach(), turns_bt, 1, discount), 1
    total_bt, covered = torch.zeros_like(window_bt), 0
    while remaining:
        if remaining & 1:
            total_bt = total_bt + _faded_bt(window_bt, turns_bt, covered, discount)
            covered += window_size
        window_bt = window_bt + _faded_bt(window_bt, turns_bt, window_size, discount)
        window_size *= 2
        remaining >>= 1
    return total_bt


def turn_baseline_bt(
    values_bt: Tensor,
    mask_bt: Tensor,
    group_ids_b: Tensor,
    turns_bt: Tensor,
    baseline: Baseline,
) -> Tensor:
    """`group_baseline_bt` where tokens of a group stand at the same position when they are of the
    same turn and have the same number within it; [B, T]."""
    if baseline == "none" or not values_bt.numel():
        return torch.zeros_like(values_bt)
    length = values_bt.shape[1]
    positions_t = torch.arange(length, device=values_bt.device)
    begins_bt = torch.ones_like(turns_bt, dtype=torch.bool)
    begins_bt[:, 1:] = turns_bt[:, 1:] != turns_bt[:, :-1]
    starts_bt = torch.where(begins_bt, positions_t, 0).cummax(dim=1).values
    # What is not averaged shares a column of its own.
    keys_bt = torch.where(mask_bt, turns_bt * length + positions_t - starts_bt, -1)
    keys, columns_bt = torch.unique(keys_bt, return_inverse=True)
    aligned_bu = values_bt.new_zeros(len(values_bt), len(keys)).scatter(1, columns_bt, values_bt)
    present_bu = torch.zeros_like(aligned_bu, dtype=torch.bool).scatter(1, columns_bt, mask_bt)
    return group_baseline_bt(aligned_bu, present_bu, group_ids_b, baseline).gather(1, columns_bt)


def _faded_bt(values_bt: Tensor, turns_bt: Tensor, positions: int, discount: float) -> Tensor:
    """The values `positions` later in the row, by what is between the two turns; 0 past the row's
    end; [B, T]."""
    if positions >= values_bt.shape[1]:
        return torch.zeros_like(values_bt)
    turns_between = turns_bt[:, positions:] - turns_bt[:, : turns_bt.shape[1] - positions]
    # Padding may have any turn.
    factors = torch.pow(discount, turns_between.clamp(min=0).to(values_bt.dtype))
    faded = values_bt[:, positions:] * factors
    return torch.nn.functional.pad(faded, (0, positions))
