"""What a batch may hold at its edges: padding, silent experts, wrong mass, low precision."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from objective_batches import (
    any_options,
    batches,
    everyone_trains,
    examples,
    random_batch,
    select_rows,
    with_leaves,
)

from distil_core.errors import DataError
from distil_core.objectives import OBJECTIVES
from distil_core.objectives.base import ObjectiveBatch, ObjectiveOutput

NAME = "forward_cross_entropy"


def run(batch: ObjectiveBatch, **options: Any) -> ObjectiveOutput:
    output: ObjectiveOutput = OBJECTIVES.build(NAME, options)(batch)
    return output


@examples
@given(batches(), st.sampled_from([math.nan, math.inf, -math.inf, 1e30]))
def test_masked_positions_may_hold_anything(batch: ObjectiveBatch, junk: float) -> None:
    off_bt = ~(batch.response_mask_bt & batch.expert_mask_b[:, None])
    dirty, student, sampled = with_leaves(
        replace(
            batch,
            student_bucket_logprobs_btk=batch.student_bucket_logprobs_btk.masked_fill(
                off_bt[..., None], junk
            ),
            expert_bucket_logprobs_btk=batch.expert_bucket_logprobs_btk.masked_fill(
                off_bt[..., None], junk
            ),
            sampled_logprobs_bt=batch.sampled_logprobs_bt.masked_fill(off_bt, junk),
            behaviour_logprobs_bt=batch.behaviour_logprobs_bt.masked_fill(off_bt, junk),
        )
    )
    output = run(dirty)
    torch.autograd.backward(output.loss)
    assert torch.equal(output.loss, run(batch).loss)
    assert student.grad is not None
    assert sampled.grad is not None
    assert not student.grad[off_bt].any()
    assert not sampled.grad[off_bt].any()
    assert not output.per_token_loss_bt[off_bt].any()


@examples
@given(batches(), any_options(), st.randoms(use_true_random=False))
def test_row_order_does_not_matter(
    batch: ObjectiveBatch, options: dict[str, Any], random: Any
) -> None:
    order = list(range(len(batch.rewards_b)))
    random.shuffle(order)
    torch.testing.assert_close(
        run(select_rows(batch, torch.tensor(order)), **options).loss, run(batch, **options).loss
    )


@examples
@given(batches(), any_options())
def test_padding_a_batch_longer_does_not_matter(
    batch: ObjectiveBatch, options: dict[str, Any]
) -> None:
    def longer(values: torch.Tensor) -> torch.Tensor:
        return torch.cat([values, torch.zeros_like(values[:, :2])], dim=1)

    padded = replace(
        batch,
        **{name: longer(value) for name, value in vars(batch).items() if "_bt" in name},
    )
    torch.testing.assert_close(run(padded, **options).loss, run(batch, **options).loss)


def test_truncated_row_credits_what_was_seen() -> None:
    """Cutting a response leaves the earlier tokens' credit short by exactly what was cut."""
    batch = everyone_trains(random_batch(5, rows=1, positions=6))
    cut = replace(batch, response_mask_bt=torch.arange(6)[None] < 4)
    kept = everyone_trains(
        select_rows(
            replace(
                batch,
                **{k: v[:, :4] for k, v in vars(batch).items() if "_bt" in k},
            ),
            torch.tensor([0]),
        )
    )
    torch.testing.assert_close(run(cut).loss, run(kept).loss)


def test_row_without_expert_is_left_out_of_everything() -> None:
    batch = everyone_trains(random_batch(1, rows=4))
    batch = replace(batch, group_ids_b=torch.zeros(4, dtype=torch.int64))
    silent = replace(batch, expert_mask_b=torch.tensor([True, True, True, False]))
    rest = select_rows(batch, torch.tensor([0, 1, 2]))
    for normalisation in ("rollouts", "tokens"):
        torch.testing.assert_close(
            run(silent, loss_normalisation=normalisation).loss,
            run(rest, loss_normalisation=normalisation).loss,
        )
    assert run(silent).diagnostics["rollouts_with_expert"] == 3


@pytest.mark.parametrize("name", ["forward_cross_entropy", "reverse_kl", "behaviour_cloning"])
def test_a_row_whose_expert_is_silent_throughout_is_a_row_without_expert(name: str) -> None:
    """Its credit of 0 would otherwise look like perfect agreement beside the others'."""
    batch = everyone_trains(random_batch(1, rows=4))
    batch = replace(batch, group_ids_b=torch.zeros(4, dtype=torch.int64))
    expert = batch.expert_bucket_logprobs_btk.clone()
    expert[3] = -torch.inf
    silent, _, sampled = with_leaves(replace(batch, expert_bucket_logprobs_btk=expert))
    without = replace(batch, expert_mask_b=torch.tensor([True, True, True, False]))
    output = OBJECTIVES.build(name, {})(silent)
    torch.testing.assert_close(output.loss, OBJECTIVES.build(name, {})(without).loss)
    assert output.diagnostics["rollouts_with_expert"] == 3
    if name == "forward_cross_entropy":
        (gradient,) = torch.autograd.grad(output.loss, sampled)
        assert gradient[:3].any()
        assert not gradient[3].any()


def test_silent_position_costs_nothing_but_keeps_its_credit() -> None:
    batch = everyone_trains(random_batch(2, rows=1, positions=3))
    expert = batch.expert_bucket_logprobs_btk.clone()
    expert[0, :2] = -torch.inf
    leaves, student, sampled = with_leaves(replace(batch, expert_bucket_logprobs_btk=expert))
    output = run(leaves, is_clip=1e9)
    torch.autograd.backward(output.loss)
    assert student.grad is not None
    assert sampled.grad is not None
    assert not student.grad[0, :2].any()
    assert (sampled.grad[0, :2] > 0).all()
    assert output.diagnostics["positions_with_expert"] == 1


def test_empty_masks_give_zero_loss_and_gradient() -> None:
    batch = random_batch(0)
    empty = replace(batch, response_mask_bt=torch.zeros_like(batch.response_mask_bt))
    leaves, student, sampled = with_leaves(empty)
    for normalisation in ("rollouts", "tokens"):
        output = run(
            leaves,
            loss_normalisation=normalisation,
            advantage_normalisation="standard_deviation",
        )
        gradients = torch.autograd.grad(output.loss, (student, sampled))
        assert output.loss == 0
        assert not any(gradient.any() for gradient in gradients)


def test_importance_weight_is_clipped_and_carries_no_gradient() -> None:
    batch = everyone_trains(random_batch(4, rows=1, positions=1))
    far = replace(batch, behaviour_logprobs_bt=batch.sampled_logprobs_bt - 50)
    on_policy = replace(batch, behaviour_logprobs_bt=batch.sampled_logprobs_bt)
    leaves, _, sampled = with_leaves(far)
    output = run(leaves, is_clip=3.0)
    torch.testing.assert_close(output.loss.detach(), 3 * run(on_policy).loss)
    (gradient,) = torch.autograd.grad(output.loss, sampled)
    assert gradient.item() == 0
    assert output.diagnostics["importance_clipped_fraction"] == 1


def test_mass_off_by_rounding_is_renormalised() -> None:
    batch = everyone_trains(random_batch(6))
    over = replace(batch, expert_bucket_logprobs_btk=batch.expert_bucket_logprobs_btk + 5e-3)
    torch.testing.assert_close(run(over).loss, run(batch).loss)
    assert run(over).diagnostics["largest_expert_mass_error"] == pytest.approx(5e-3, rel=1e-2)


@pytest.mark.parametrize("shift", [0.05, -0.05, math.nan, math.inf])
def test_wrong_mass_is_refused_with_its_rows(shift: float) -> None:
    batch = everyone_trains(random_batch(7, rows=4))
    expert = batch.expert_bucket_logprobs_btk.clone()
    expert[2] += shift
    with pytest.raises(DataError, match=r"rows \[2\]"):
        run(replace(batch, expert_bucket_logprobs_btk=expert))
    without = replace(
        batch,
        expert_bucket_logprobs_btk=expert,
        expert_mask_b=torch.tensor([True, True, False, True]),
    )
    assert torch.isfinite(run(without).loss)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2), (torch.float16, 1e-2)]
)
@pytest.mark.parametrize("name", OBJECTIVES.names())
def test_lower_precision(name: str, dtype: torch.dtype, tolerance: float) -> None:
    objective = OBJECTIVES.build(name, {"reward_weight": 0.5} if name == "blend" else {})
    exact = everyone_trains(random_batch(8, rows=8))
    exact = replace(exact, behaviour_logprobs_bt=exact.sampled_logprobs_bt)
    low = replace(
        exact,
        **{
            field: value.to(dtype)
            for field, value in vars(exact).items()
            if value is not None and value.is_floating_point()
        },
    )
    leaves, student, sampled = with_leaves(low)
    output = objective(leaves)
    torch.autograd.backward(output.loss)
    assert output.loss.dtype == torch.float32
    assert output.loss.item() == pytest.approx(
        objective(exact).loss.item(), rel=tolerance, abs=tolerance
    )
    for gradient in (student.grad, sampled.grad):
        assert gradient is None or torch.isfinite(gradient).all()


def test_nothing_waits_for_the_device_before_the_readings() -> None:
    """On the meta device any read of a value raises: only the final readout may."""
    batch = everyone_trains(random_batch(0))
    fields = {name: value.to("meta") for name, value in vars(batch).items() if value is not None}
    for name in OBJECTIVES.names():
        options = {"reward_weight": 0.5} if name == "blend" else {}
        with pytest.raises((RuntimeError, NotImplementedError)) as raised:
            OBJECTIVES.build(name, options)(ObjectiveBatch(**fields))
        assert "reduce_loss" in [entry.name for entry in raised.traceback], name


@pytest.mark.parametrize("name", ["forward_cross_entropy", "grpo"])
def test_autocast_does_not_lower_the_precision(name: str) -> None:
    batch = everyone_trains(random_batch(9, rows=8, dtype=torch.float32))
    objective = OBJECTIVES.build(name, {})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = objective(batch).loss
    assert torch.equal(inside, objective(batch).loss)
