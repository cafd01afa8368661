"""Credit and baselines over turns, against loops over tokens (20 s)."""

from dataclasses import fields
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from naive_reference import Naive, Rows
from objective_batches import any_options, batches, examples, random_batch, with_leaves
from torch import Tensor

from distil_core.objectives import OBJECTIVES
from distil_core.objectives.base import ObjectiveBatch
from distil_core.objectives.estimators.credit import discounted_future_sum_bt, group_baseline_bt
from distil_core.objectives.estimators.turns import (
    BatchOfTurns,
    future_sum_by_turn_bt,
    turn_baseline_bt,
)

NAME = "forward_cross_entropy_over_turns"


def with_turns(batch: ObjectiveBatch, turns_bt: Tensor) -> BatchOfTurns:
    values = {field.name: getattr(batch, field.name) for field in fields(ObjectiveBatch)}
    return BatchOfTurns(**values, turn_ids_bt=turns_bt)


def turns_of(draw: Any, rows: int, positions: int) -> Tensor:
    """Of each row, rising by any steps: an environment may answer with an empty text."""
    steps = [
        [0, *(draw(st.integers(0, 2)) for _ in range(positions - 1))][:positions]
        for _ in range(rows)
    ]
    return torch.tensor(steps, dtype=torch.int64).reshape(rows, positions).cumsum(1)


@st.composite
def batches_of_turns(draw: st.DrawFn) -> BatchOfTurns:
    batch = draw(batches())
    return with_turns(batch, turns_of(draw, *batch.response_mask_bt.shape))


class NaiveTurns(Naive):
    """Credit and baseline of docs/method.md#turns, token by token."""

    def __init__(self, batch: BatchOfTurns, options: dict[str, Any]):
        super().__init__(batch)
        assert batch.turn_ids_bt is not None
        self.turns = batch.turn_ids_bt.tolist()
        self.options = options

    def place(self, b: int, t: int) -> tuple[int, int]:
        """The turn, and which token of it."""
        turn = self.turns[b][t]
        return turn, sum(other == turn for other in self.turns[b][:t])

    def credits(self, options: dict[str, Any]) -> Rows:
        if options["discount_per"] == "token":
            return super().credits(options)

        def cost(b: int, t: int) -> float:
            entropy = self.expert_entropy(b, t) if options["cost"] == "kl_divergence" else 0.0
            return self.cross_entropy(b, t) - entropy

        horizon = options["horizon"] or len(self.positions)
        return [
            [
                sum(
                    options["discount"] ** (self.turns[b][k] - self.turns[b][t]) * cost(b, k)
                    for k in self.positions
                    if t < k <= t + horizon
                )
                for t in self.positions
            ]
            for b in self.rows
        ]

    def baseline(self, future: Rows, b: int, t: int, kind: str) -> float:
        if self.options["baseline_alignment"] == "token":
            return super().baseline(future, b, t, kind)
        members = [
            future[other][k]
            for other in self.rows
            for k in self.positions
            if self.same_group(b, other)
            and self.trained(other, k)
            and self.place(other, k) == self.place(b, t)
            and (kind == "group_mean" or other != b)
        ]
        return sum(members) / len(members) if members and kind != "none" else 0.0


@st.composite
def turn_options(draw: st.DrawFn) -> dict[str, Any]:
    chosen = draw(any_options())
    chosen["discount_per"] = draw(st.sampled_from(["token", "turn"]))
    chosen["baseline_alignment"] = draw(st.sampled_from(["token", "turn"]))
    return chosen


@examples
@given(batches_of_turns(), turn_options())
def test_loss_and_gradient_are_the_formula(batch: BatchOfTurns, options: dict[str, Any]) -> None:
    resolved = OBJECTIVES.options(NAME, options).model_dump()
    naive = NaiveTurns(batch, resolved)
    leaves, student, sampled = with_leaves(batch)
    output = OBJECTIVES.build(NAME, options)(leaves)
    assert output.loss.item() == pytest.approx(
        naive.forward_cross_entropy(resolved), rel=1e-10, abs=1e-10
    )
    torch.autograd.backward(output.loss)
    for found, expected in zip(
        (student.grad, sampled.grad), naive.forward_gradients(resolved), strict=True
    ):
        assert found is not None
        torch.testing.assert_close(
            found, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-10
        )


@st.composite
def rollouts(draw: st.DrawFn) -> list[list[tuple[int, float | None]]]:
    """Tokens of rollouts in order: the turn and the cost of each, None for the environment's."""
    found = []
    for _ in range(draw(st.integers(1, 4))):
        row: list[tuple[int, float | None]] = []
        for turn in range(draw(st.integers(1, 4))):
            if turn:
                row += [(turn, None)] * draw(st.integers(0, 3))
            row += [(turn, draw(st.floats(0, 100))) for _ in range(draw(st.integers(1, 4)))]
        found.append(row)
    return found


@examples
@given(
    rollouts(),
    st.sampled_from([0.0, 1e-3, 0.5, 0.9, 1.0]),
    st.none() | st.integers(1, 20),
    st.sampled_from(["token", "turn"]),
)
def test_credit_skips_what_the_environment_wrote(
    rows: list[list[tuple[int, float | None]]], discount: float, horizon: int | None, per: str
) -> None:
    """The double loop runs over all tokens of a rollout; production over the policy's alone."""
    policys = [[(turn, cost) for turn, cost in row if cost is not None] for row in rows]
    length = max(map(len, policys))
    costs_bt = torch.zeros(len(rows), length, dtype=torch.float64)
    turns_bt = torch.zeros(len(rows), length, dtype=torch.int64)
    for b, policys_t in enumerate(policys):
        costs_bt[b, : len(policys_t)] = torch.tensor([cost for _, cost in policys_t]).double()
        turns_bt[b, : len(policys_t)] = torch.tensor([turn for turn, _ in policys_t])
    found = (
        discounted_future_sum_bt(costs_bt, discount, horizon)
        if per == "token"
        else future_sum_by_turn_bt(costs_bt, turns_bt, discount, horizon)
    )
    costs = costs_bt.tolist()
    for b, row in enumerate(rows):
        number = [sum(cost is not None for _, cost in row[:place]) for place in range(len(row))]
        for place, (turn, own) in enumerate(row):
            if own is None:
                continue
            expected, steps = 0.0, 0
            for later in range(place + 1, len(row)):
                later_turn, cost = row[later]
                if cost is None:
                    continue
                steps += 1
                if horizon is not None and steps > horizon:
                    break
                power = steps - 1 if per == "token" else later_turn - turn
                expected += discount**power * costs[b][number[later]]
            assert found[b, number[place]].item() == pytest.approx(expected, rel=1e-12, abs=1e-12)


@examples
@given(batches(), any_options())
def test_single_responses_have_the_bits_of_forward_cross_entropy(
    batch: ObjectiveBatch, options: dict[str, Any]
) -> None:
    plain, student, sampled = with_leaves(batch)
    output = OBJECTIVES.build("forward_cross_entropy", options)(plain)
    torch.autograd.backward(output.loss)
    expected = (output.loss, output.per_token_loss_bt, student.grad, sampled.grad)
    one_turn = torch.zeros_like(batch.response_mask_bt, dtype=torch.int64)
    aligned = {**options, "baseline_alignment": "turn"}
    for other, chosen in (
        (batch, options),
        (batch, aligned),
        (with_turns(batch, one_turn), aligned),
        (with_turns(batch, one_turn + 3), options),
    ):
        leaves, student, sampled = with_leaves(other)
        output = OBJECTIVES.build(NAME, chosen)(leaves)
        torch.autograd.backward(output.loss)
        found = (output.loss, output.per_token_loss_bt, student.grad, sampled.grad)
        for mine, theirs in zip(found, expected, strict=True):
            assert mine is not None
            assert theirs is not None
            assert torch.equal(mine, theirs)


@pytest.mark.parametrize("discount", [0.0, 0.3, 1.0])
def test_a_turn_a_token_is_discounted_by_token(discount: float) -> None:
    """But for the first step, which a discount by token does not count."""
    costs_bt = torch.rand(3, 9, dtype=torch.float64)
    turns_bt = torch.arange(9).expand(3, 9)
    found = future_sum_by_turn_bt(costs_bt, turns_bt, discount, 4)
    expected = discount * discounted_future_sum_bt(costs_bt, discount, 4)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=0)


def test_the_baseline_of_turns_by_hand() -> None:
    """The first turns have one and two tokens; the second turns are compared from their start."""
    values_bt = torch.tensor([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0], [5.0, 0.0, 0.0]]).double()
    turns_bt = torch.tensor([[0, 1, 1], [0, 0, 1], [0, 0, 0]])
    mask_bt = torch.tensor([[True] * 3, [True] * 3, [True, False, False]])
    groups_b = torch.zeros(3, dtype=torch.int64)
    found = turn_baseline_bt(values_bt, mask_bt, groups_b, turns_bt, "leave_one_out")
    assert found[0].tolist() == [7.5, 30.0, 0.0]
    assert found[1].tolist() == [3.0, 0.0, 2.0]
    assert found[2, 0].item() == 5.5
    mean = turn_baseline_bt(values_bt, mask_bt, groups_b, turns_bt, "group_mean")
    assert mean[1].tolist() == [16 / 3, 20.0, 16.0]
    assert not turn_baseline_bt(values_bt, mask_bt, groups_b, turns_bt, "none").any()


def test_turns_of_padding_are_not_read() -> None:
    """Neither by credit, whose discount of 0 would make them infinite, nor by baselines."""
    batch = random_batch(3, rows=4, positions=6, tokens=3, padding_buckets=1)
    mask_bt = batch.response_mask_bt
    assert (~mask_bt).any()
    turns_bt = torch.tensor([[0, 0, 1, 1, 2, 2]] * 4)
    for discount in (0.0, 0.5):
        options = {"discount_per": "turn", "baseline_alignment": "turn", "discount": discount}
        objective = OBJECTIVES.build(NAME, options)
        expected = objective(with_turns(batch, turns_bt))
        for filler in (0, -5, 1000):
            found = objective(with_turns(batch, turns_bt.masked_fill(~mask_bt, filler)))
            assert torch.equal(found.per_token_loss_bt, expected.per_token_loss_bt)
            assert torch.isfinite(found.loss)


@examples
@given(st.data())
def test_rows_in_any_order_have_the_same_baseline(data: st.DataObject) -> None:
    rows, positions = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 6))
    turns_bt = turns_of(data.draw, rows, positions)
    random = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    values_bt = torch.randint(0, 100, (rows, positions), generator=random).double()
    mask_bt = torch.rand(rows, positions, generator=random) < 0.8
    groups_b = torch.randint(0, 2, (rows,), generator=random)
    order = torch.randperm(rows, generator=random)
    found = turn_baseline_bt(values_bt, mask_bt, groups_b, turns_bt, "group_mean")
    again = turn_baseline_bt(
        values_bt[order], mask_bt[order], groups_b[order], turns_bt[order], "group_mean"
    )
    assert torch.equal(found[order][mask_bt[order]], again[mask_bt[order]])
    alone = group_baseline_bt(values_bt, mask_bt, torch.arange(rows), "group_mean")
    assert torch.equal(alone[mask_bt], values_bt[mask_bt])
