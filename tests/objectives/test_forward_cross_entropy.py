"""The DistIL objective: against a loop over its formula, and at every edge of a batch."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from naive_reference import Naive
from objective_batches import (
    any_options,
    batches,
    everyone_trains,
    examples,
    random_batch,
    with_leaves,
)

from distil_core.errors import ConfigError
from distil_core.objectives import OBJECTIVES
from distil_core.objectives.base import ObjectiveBatch, ObjectiveOutput

NAME = "forward_cross_entropy"


def run(batch: ObjectiveBatch, **options: Any) -> ObjectiveOutput:
    output: ObjectiveOutput = OBJECTIVES.build(NAME, options)(batch)
    return output


def resolved(options: dict[str, Any]) -> dict[str, Any]:
    return OBJECTIVES.options(NAME, options).model_dump()


@examples
@given(batches(), any_options())
def test_loss_is_the_formula(batch: ObjectiveBatch, options: dict[str, Any]) -> None:
    expected = Naive(batch).forward_cross_entropy(resolved(options))
    assert run(batch, **options).loss.item() == pytest.approx(expected, rel=1e-10, abs=1e-10)


@examples
@given(batches(), any_options())
def test_value_and_gradient_are_finite(batch: ObjectiveBatch, options: dict[str, Any]) -> None:
    leaves, student, sampled = with_leaves(batch)
    output = run(leaves, **options)
    torch.autograd.backward(output.loss)
    for tensor in (output.loss, output.per_token_loss_bt, student.grad, sampled.grad):
        assert tensor is not None
        assert torch.isfinite(tensor).all()
    assert all(math.isfinite(value) for value in output.diagnostics.values())
    assert not output.per_token_loss_bt.requires_grad


@examples
@given(batches(), any_options())
def test_gradient_is_the_formula(batch: ObjectiveBatch, options: dict[str, Any]) -> None:
    leaves, student, sampled = with_leaves(batch)
    torch.autograd.backward(run(leaves, **options).loss)
    local, credit = Naive(batch).forward_gradients(resolved(options))
    for found, expected in ((student.grad, local), (sampled.grad, credit)):
        assert found is not None
        torch.testing.assert_close(
            found, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-10
        )


def test_gradient_by_hand() -> None:
    """Two tokens, one rollout: -T/Z on the buckets, weight * C/Z on the sampled token."""
    student = torch.tensor([[[0.5, 0.5, 1.0], [0.2, 0.8, 1.0]]], dtype=torch.float64).log()
    expert = torch.tensor([[[0.9, 0.1, 0.0], [1.0, 0.0, 0.0]]], dtype=torch.float64).log()
    batch, student_leaf, sampled_leaf = with_leaves(
        ObjectiveBatch(
            student_bucket_logprobs_btk=student,
            expert_bucket_logprobs_btk=expert,
            sampled_logprobs_bt=student[:, :, 1],
            behaviour_logprobs_bt=student[:, :, 1],
            response_mask_bt=torch.ones(1, 2, dtype=torch.bool),
            expert_mask_b=torch.ones(1, dtype=torch.bool),
            rewards_b=torch.zeros(1),
            group_ids_b=torch.zeros(1, dtype=torch.int64),
        )
    )
    torch.autograd.backward(run(batch, weight=0.5, baseline="none").loss)
    expected = torch.tensor([[[-0.9, -0.1, 0.0], [-1.0, 0.0, 0.0]]], dtype=torch.float64)
    torch.testing.assert_close(student_leaf.grad, expected)
    credit = -math.log(0.2)
    torch.testing.assert_close(
        sampled_leaf.grad, torch.tensor([[0.5 * credit, 0.0]], dtype=torch.float64)
    )


def test_local_gradient_numerically() -> None:
    batch, student, _ = with_leaves(everyone_trains(random_batch(3, rows=2, positions=2)))
    objective = OBJECTIVES.build(NAME, {"weight": 0.0})
    assert torch.autograd.gradcheck(
        lambda value: objective(replace(batch, student_bucket_logprobs_btk=value)).loss,
        (student,),
    )


@pytest.mark.parametrize(
    "options",
    [
        {"weight": -1.0},
        {"discount": 1.1},
        {"horizon": 0},
        {"baseline": "median"},
        {"is_clip": 0.0},
        {"loss_normalisation": "constant"},
        {"loss_constant": 3.0},
        {"temperature": 1.0},
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=NAME):
        OBJECTIVES.build(NAME, options)
