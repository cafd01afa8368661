"""Future credit: how much expert-student disagreement each token leads to (METHOD section 2)."""

from typing import Literal

import torch
from torch import Tensor

Baseline = Literal["none", "group_mean", "leave_one_out"]
AdvantageNormalisation = Literal["none", "standard_deviation"]

_LEAST_DEVIATION = 1e-8


def discounted_future_sum_bt(costs_bt: Tensor, discount: float, horizon: int | None) -> Tensor:
    """C_t = sum of discount^(k-t-1) * costs_k over t < k <= t + horizon; [B, T], no gradient.

    discount: in [0, 1]; 0 leaves the next position only (0^0 = 1).
    horizon: positions counted, at least 1; None counts to the end.

    Windows of 1, 2, 4 .. positions are built by doubling, W_2n(t) = W_n(t) + discount^n W_n(t+n),
    and joined as the horizon's binary digits say: log2(T) tensor operations, no [T, T] matrix, and
    sums of like-signed terms only, which a difference of cumulative sums would not be.
    """
    length = costs_bt.shape[1]
    remaining = length if horizon is None else min(horizon, length)
    window_bt, window_size = _later_bt(costs_bt.detach(), 1), 1
    total_bt, covered = torch.zeros_like(window_bt), 0
    while remaining:
        if remaining & 1:
            total_bt = total_bt + discount**covered * _later_bt(window_bt, covered)
            covered += window_size
        window_bt = window_bt + discount**window_size * _later_bt(window_bt, window_size)
        window_size *= 2
        remaining >>= 1
    return total_bt


def group_baseline_bt(
    values_bt: Tensor, mask_bt: Tensor, group_ids_b: Tensor, baseline: Baseline
) -> Tensor:
    """b_t of each row: the mean of `values_bt` at the same position over its group; [B, T].

    Only members that have a trained token there (`mask_bt`) are averaged; a response that ended
    earlier says nothing about the states that the others reached.

    group_mean: the row itself included, so a row alone at its position (a group of one, the
        longest response's end) has no advantage there. Scales the credit by (n-1)/n for n members.
    leave_one_out: the others only. It does not depend on the row's own token, hence no bias. A row
        alone at its position has baseline 0 there: dropping its credit instead would be biased.
    """
    if baseline == "none":
        return torch.zeros_like(values_bt)
    members_bb = group_ids_b[:, None] == group_ids_b[None, :]
    if baseline == "leave_one_out":
        itself_bb = torch.eye(len(group_ids_b), dtype=torch.bool, device=group_ids_b.device)
        members_bb = members_bb & ~itself_bb
    # A non-finite value is kept out of the product, where 0 * inf would hide which row it is in.
    usable_bt = mask_bt & torch.isfinite(values_bt)
    # float64, because autocast would turn a float32 product into half precision.
    weights_bb = members_bb.double()
    sums_bt = weights_bb @ torch.where(usable_bt, values_bt, 0.0).double()
    counts_bt = weights_bb @ usable_bt.double()
    return (sums_bt / counts_bt.clamp(min=1.0)).to(values_bt.dtype)


def scaled_advantage_bt(
    advantages_bt: Tensor, mask_bt: Tensor, normalisation: AdvantageNormalisation
) -> Tensor:
    """The advantage on trained positions, 0 elsewhere; [B, T].

    standard_deviation: divided by its deviation over the batch's trained positions; the mean stays,
        so one positive factor is all that changes. The factor cannot explode: a row's last token
        has no future, so without a baseline the values differ, and with one their mean is near 0.
    """
    kept_bt = torch.where(mask_bt, advantages_bt, 0.0)
    if normalisation == "none":
        return kept_bt
    usable_bt = mask_bt & torch.isfinite(kept_bt)
    count = usable_bt.sum().clamp(min=1)
    mean = torch.where(usable_bt, kept_bt, 0.0).sum() / count
    squares_bt = torch.where(usable_bt, kept_bt - mean, 0.0) ** 2
    deviation = torch.sqrt(squares_bt.sum() / count)
    return kept_bt / deviation.clamp(min=_LEAST_DEVIATION)


def _later_bt(values_bt: Tensor, positions: int) -> Tensor:
    """The value `positions` later in the row, 0 past its end; [B, T]."""
    if positions >= values_bt.shape[1]:
        return torch.zeros_like(values_bt)
    return torch.nn.functional.pad(values_bt[:, positions:], (0, positions))
