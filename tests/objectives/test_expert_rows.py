"""Rows that the expert wrote: labels only, whatever the objective (about 1 s)."""

from dataclasses import replace

import pytest
import torch
from objective_batches import everyone_trains, random_batch, with_leaves

from distil_core.objectives import OBJECTIVES
from distil_core.objectives.base import ObjectiveBatch

CONSTANT = {"loss_normalisation": "constant", "loss_constant": 1.0}


def mixed(seed: int) -> ObjectiveBatch:
    """Rows 1 and 3 are the expert's, in the groups of the student's rows."""
    batch = everyone_trains(random_batch(seed, rows=5, positions=4))
    return replace(
        batch,
        group_ids_b=torch.zeros(5, dtype=torch.int64),
        by_expert_b=torch.tensor([False, True, False, True, False]),
    )


@pytest.mark.parametrize("baseline", ["none", "group_mean", "leave_one_out"])
@pytest.mark.parametrize("normalisation", ["none", "standard_deviation"])
def test_they_get_no_credit_and_weight_one(baseline: str, normalisation: str) -> None:
    options = {**CONSTANT, "baseline": baseline, "advantage_normalisation": normalisation}
    objective = OBJECTIVES.build("forward_cross_entropy", options)
    batch, student, sampled = with_leaves(mixed(1))
    objective(batch).loss.backward()
    expert_b = batch.by_expert_b
    assert (sampled.grad[expert_b] == 0).all()
    assert (sampled.grad[~expert_b] != 0).any()
    # The local term at weight 1: minus the expert's mass on each bucket.
    masses = torch.exp(batch.expert_bucket_logprobs_btk)
    totals = masses.sum(-1, keepdim=True)
    expected = torch.where(totals > 0, -masses / totals.clamp(min=1e-30), 0.0)
    torch.testing.assert_close(student.grad[expert_b], expected[expert_b])


@pytest.mark.parametrize("name", ["forward_cross_entropy", "grpo", "sampled_reverse_kl"])
def test_the_students_rows_train_as_if_they_were_alone(name: str) -> None:
    objective = OBJECTIVES.build(name, CONSTANT)
    batch, student, sampled = with_leaves(mixed(2))
    objective(batch).loss.backward()
    kept = ~batch.by_expert_b
    alone = {
        field: None if value is None else value.detach()[kept]
        for field, value in vars(batch).items()
    }
    own_batch, own_student, own_sampled = with_leaves(ObjectiveBatch(**alone))
    objective(own_batch).loss.backward()
    torch.testing.assert_close(sampled.grad[kept], own_sampled.grad)
    if own_student.grad is not None:
        torch.testing.assert_close(student.grad[kept], own_student.grad)
    if name != "forward_cross_entropy":
        assert (sampled.grad[~kept] == 0).all()


@pytest.mark.parametrize("name", OBJECTIVES.names())
def test_no_value_of_theirs_that_nobody_sampled_is_read(name: str) -> None:
    options = {"reward_weight": 0.5} if name == "blend" else CONSTANT
    objective = OBJECTIVES.build(name, options)
    batch = mixed(3)
    expert_b = batch.by_expert_b
    assert expert_b is not None
    other = replace(
        batch,
        behaviour_logprobs_bt=torch.where(expert_b[:, None], 9.0, batch.behaviour_logprobs_bt),
        rewards_b=torch.where(expert_b, 5.0, batch.rewards_b),
    )
    torch.testing.assert_close(objective(batch).loss, objective(other).loss, rtol=0, atol=0)
    assert objective(batch).diagnostics == objective(other).diagnostics
