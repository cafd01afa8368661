"""Future credit, group baselines and the advantage's scale, against loops and by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from objective_batches import examples
from torch import Tensor

from distil_core.objectives.estimators.credit import (
    discounted_future_sum_bt,
    group_baseline_bt,
    scaled_advantage_bt,
)

T, F = True, False


def looped(costs: list[float], discount: float, horizon: int | None) -> list[float]:
    length = len(costs)
    reach = length if horizon is None else horizon
    return [
        sum(discount ** (k - t - 1) * costs[k] for k in range(t + 1, min(t + reach + 1, length)))
        for t in range(length)
    ]


def doubles(values: list[list[float]]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@examples
@given(
    st.lists(st.floats(0, 100), min_size=1, max_size=40),
    st.floats(0, 1),
    st.none() | st.integers(1, 50),
)
def test_future_sum_is_the_loop(costs: list[float], discount: float, horizon: int | None) -> None:
    found = discounted_future_sum_bt(doubles([costs, costs[::-1]]), discount, horizon)
    expected = doubles([looped(costs, discount, horizon), looped(costs[::-1], discount, horizon)])
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-12)


def test_future_sum_is_exact_on_integers() -> None:
    costs_bt = torch.randint(0, 1000, (3, 1000), dtype=torch.int64).double()
    suffix_bt = costs_bt.flip(1).cumsum(1).flip(1) - costs_bt
    assert torch.equal(discounted_future_sum_bt(costs_bt, 1.0, None), suffix_bt)
    windowed = discounted_future_sum_bt(costs_bt, 1.0, 37)
    assert windowed[0, 100] == costs_bt[0, 101:138].sum()


@pytest.mark.parametrize("length", [0, 1, 2])
def test_future_sum_of_short_rows(length: int) -> None:
    costs_bt = torch.ones(2, length, dtype=torch.float64)
    expected = doubles([[1.0, 0.0][-length:] if length else []] * 2)
    assert torch.equal(discounted_future_sum_bt(costs_bt, 0.5, None), expected)


def test_future_sum_carries_no_gradient() -> None:
    costs_bt = torch.ones(1, 3, requires_grad=True)
    assert not discounted_future_sum_bt(costs_bt, 1.0, None).requires_grad


GROUPS = torch.tensor([7, 7, 7, 2])
VALUES = doubles([[1, 2, 3], [5, 8, 0], [9, 0, 0], [4, 4, 4]])
MASK = torch.tensor([[T, T, T], [T, T, F], [T, F, F], [T, T, F]])


def test_group_mean_by_hand() -> None:
    found = group_baseline_bt(VALUES, MASK, GROUPS, "group_mean")
    # Position 2: one member is left, and it is its own mean. The group of one likewise.
    assert found[:3].tolist() == [[5.0, 5.0, 3.0]] * 3
    assert found[3, :2].tolist() == [4.0, 4.0]


def test_leave_one_out_by_hand() -> None:
    found = group_baseline_bt(VALUES, MASK, GROUPS, "leave_one_out")
    assert found[0].tolist() == [7.0, 8.0, 0.0]
    assert found[1, :2].tolist() == [5.0, 2.0]
    assert found[2, 0].item() == 3.0
    assert found[3].tolist() == [0.0, 0.0, 0.0]


def test_no_baseline_is_zero() -> None:
    assert not group_baseline_bt(VALUES, MASK, GROUPS, "none").any()


@examples
@given(st.permutations(range(4)))
def test_baselines_do_not_depend_on_row_order(order: list[int]) -> None:
    for kind in ("group_mean", "leave_one_out"):
        shuffled = group_baseline_bt(VALUES[order], MASK[order], GROUPS[order], kind)
        assert torch.equal(shuffled, group_baseline_bt(VALUES, MASK, GROUPS, kind)[order])


def test_a_non_finite_row_does_not_reach_the_others() -> None:
    values = VALUES.clone()
    values[1, 0] = torch.inf
    found = group_baseline_bt(values, MASK, GROUPS, "leave_one_out")
    assert torch.isfinite(found).all()
    assert found[0, 0] == 9.0
    scaled = scaled_advantage_bt(values, MASK, "standard_deviation")
    assert torch.isfinite(scaled).sum() == scaled.numel() - 1


def test_standard_deviation_over_trained_positions() -> None:
    scaled = scaled_advantage_bt(VALUES, MASK, "standard_deviation")
    assert scaled[MASK].std(correction=0).item() == pytest.approx(1.0, rel=1e-12)
    torch.testing.assert_close(
        scaled[MASK], VALUES[MASK] / VALUES[MASK].std(correction=0), rtol=1e-12, atol=0
    )
    assert not scaled[~MASK].any()


@pytest.mark.parametrize("mask", [torch.zeros(4, 3, dtype=torch.bool), MASK])
def test_no_advantage_stays_none(mask: Tensor) -> None:
    zeros = scaled_advantage_bt(torch.zeros(4, 3), mask, "standard_deviation")
    assert not zeros.any()
