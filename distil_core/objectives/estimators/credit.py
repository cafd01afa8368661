"""How much expert-student disagreement each token leads to (docs/method.md#future-credit)."""

from typing import Literal

import torch
from torch import Tensor

Baseline = Literal["none", "group_mean", "leave_one_out"]
AdvantageNormalisation = Literal["none", "standard_deviation"]

_LEAST_DEVIATION = 1e-8


def discounted_future_sum_bt(costs_bt: Tensor, discount: float, horizon: int | None) -> Tensor:
    """C_t = sum of discount^(k-t-1) * costs_k over t < k <= t + horizon; [B, T], no gradient.

    discount: in [0, 1]; 0 keeps only the next position (0^0 = 1). horizon: number of positions, at
    least 1; None counts to the end.

    Sums over windows of 1, 2, 4 .. positions are built by doubling, W_2n(t) = W_n(t) + discount^n
    W_n(t+n), and combined by the binary digits of the horizon. This takes log2(T) tensor operations
    and no [T, T] matrix, and adds only terms of the same sign, unlike a difference of cumulative
    sums.
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

    Only members with a trained token there (`mask_bt`) are averaged: a response that ended earlier
    says nothing about the states that the others reached.

    group_mean: includes the row itself, so a row alone at its position (a group of one, the end of
        the longest response) has no advantage there. It scales the credit by (n-1)/n for n members.
    leave_one_out: only the other rows. It does not depend on the row's own token, so it adds no
        bias. A row alone at its position has baseline 0 there: dropping its credit would be biased.
    """
    if baseline == "none":
        return torch.zeros_like(values_bt)
    members_bb = group_ids_b[:, None] == group_ids_b[None, :]
    if baseline == "leave_one_out":
        itself_bb = torch.eye(len(group_ids_b), dtype=torch.bool, device=group_ids_b.device)
        members_bb = members_bb & ~itself_bb
    # Non-finite values are left out of the product, as 0 * inf would spread them to all rows.
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

    standard_deviation: divide by the standard deviation over the batch's trained positions. The
        mean is not subtracted, so the gradient changes by one positive factor. The factor stays
        bounded: a row's last token has no future, so values differ without a baseline, and have a
        mean near 0 with one.
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
    """The values `positions` later in the row, 0 past the row's end; [B, T]."""
    if positions >= values_bt.shape[1]:
        return torch.zeros_like(values_bt)
    return torch.nn.functional.pad(values_bt[:, positions:], (0, positions))
