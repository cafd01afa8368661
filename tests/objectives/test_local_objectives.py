"""Reverse KL, its one-sample form, Jensen-Shannon and behaviour cloning over the same batch."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from naive_reference import Naive
from objective_batches import batches, everyone_trains, examples, random_batch, with_leaves

from distil_core.errors import ConfigError, DataError
from distil_core.objectives import OBJECTIVES
from distil_core.objectives.base import ObjectiveBatch, ObjectiveOutput

FLOOR = 1e-8


def run(name: str, batch: ObjectiveBatch, **options: Any) -> ObjectiveOutput:
    output: ObjectiveOutput = OBJECTIVES.build(name, options)(batch)
    return output


@examples
@given(batches())
def test_reverse_kl_is_the_formula(batch: ObjectiveBatch) -> None:
    naive = Naive(batch)
    options = {"loss_normalisation": "tokens", "is_clip": 2.0}
    expected = naive.local_loss(lambda b, t: naive.reverse_kl(b, t, FLOOR), options)
    found = run("reverse_kl", batch, loss_normalisation="tokens")
    assert found.loss.item() == pytest.approx(expected, rel=1e-10, abs=1e-10)


@examples
@given(batches())
def test_jensen_shannon_is_the_formula(batch: ObjectiveBatch) -> None:
    naive = Naive(batch)
    options = {"loss_normalisation": "rollouts", "is_clip": 0.9}
    expected = naive.local_loss(lambda b, t: naive.jensen_shannon(b, t, 0.3), options)
    found = run("jensen_shannon", batch, expert_weight=0.3, is_clip=0.9)
    assert found.loss.item() == pytest.approx(expected, rel=1e-10, abs=1e-10)


@examples
@given(batches())
def test_sampled_reverse_kl_is_the_formula(batch: ObjectiveBatch) -> None:
    naive = Naive(batch)
    expected = naive.local_loss(
        lambda b, t: naive.sampled_log_ratio(b, t, FLOOR) * naive.sampled[b][t],
        {"loss_normalisation": "rollouts", "is_clip": 2.0},
    )
    found = run("sampled_reverse_kl", batch)
    assert found.loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@examples
@given(batches())
def test_behaviour_cloning_is_the_formula(batch: ObjectiveBatch) -> None:
    """The sampler plays no part: no importance weight."""
    naive = Naive(batch)
    expected = naive.local_loss(naive.label_cost, {"loss_normalisation": "rollouts"})
    assert run("behaviour_cloning", batch).loss.item() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(
    "name", ["reverse_kl", "jensen_shannon", "behaviour_cloning", "sampled_reverse_kl"]
)
def test_gradients_are_finite_at_the_edges_of_a_batch(name: str) -> None:
    for seed in range(30):
        leaves, student, sampled = with_leaves(random_batch(seed))
        torch.autograd.backward(run(name, leaves).loss)
        for gradient in (student.grad, sampled.grad):
            assert gradient is None or torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", ["reverse_kl", "jensen_shannon"])
def test_gradient_numerically(name: str) -> None:
    batch, student, _ = with_leaves(everyone_trains(random_batch(3, rows=2, positions=2)))
    objective = OBJECTIVES.build(name, {})
    assert torch.autograd.gradcheck(
        lambda value: objective(replace(batch, student_bucket_logprobs_btk=value)).loss,
        (student,),
    )


@pytest.mark.parametrize("tail_mass", [0.2, 0.0])
def test_sampled_reverse_kl_has_the_full_gradient_in_expectation(tail_mass: float) -> None:
    """All five tokens of one state, each as a row with its probability as importance weight."""
    logits = torch.randn(5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logits.requires_grad_(True)
    # Stored: tokens 0, 1 and 2, the last without expert mass; tail: tokens 3 and 4.
    expert = torch.tensor([0.5, 0.5 - tail_mass, 0.0, tail_mass], dtype=torch.float64).log()
    logprobs = torch.log_softmax(logits, dim=-1)
    student = torch.cat([logprobs[:3], torch.logsumexp(logprobs[3:], 0, keepdim=True)])
    common: dict[str, Any] = {
        "student_bucket_logprobs_btk": student.expand(5, 1, 4),
        "expert_bucket_logprobs_btk": expert.expand(5, 1, 4),
        "sampled_logprobs_bt": logprobs[:, None],
        "response_mask_bt": torch.ones(5, 1, dtype=torch.bool),
        "expert_mask_b": torch.ones(5, dtype=torch.bool),
        "rewards_b": torch.zeros(5),
        "group_ids_b": torch.zeros(5, dtype=torch.int64),
        "sampled_buckets_bt": torch.tensor([0, 1, 2, 3, 3])[:, None],
    }
    one_sum: dict[str, Any] = {"loss_normalisation": "constant", "loss_constant": 1.0}
    sampled = run(
        "sampled_reverse_kl",
        ObjectiveBatch(behaviour_logprobs_bt=torch.zeros(5, 1, dtype=torch.float64), **common),
        **one_sum,
    )
    full = run(
        "reverse_kl", ObjectiveBatch(behaviour_logprobs_bt=logprobs.detach()[:, None], **common)
    )
    found, expected = (
        torch.autograd.grad(x.loss, logits, retain_graph=True)[0] for x in (sampled, full)
    )
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_sampled_reverse_kl_says_what_it_lacks() -> None:
    with pytest.raises(DataError, match="sampled_buckets_bt"):
        run("sampled_reverse_kl", replace(random_batch(0), sampled_buckets_bt=None))


def test_reverse_kl_floor_bounds_the_cost_of_a_missing_expert_mass() -> None:
    batch = everyone_trains(random_batch(0))
    low, high = (run("reverse_kl", batch, expert_floor=floor).loss for floor in (1e-12, 1e-4))
    assert low > high > 0


def test_a_tail_is_no_label() -> None:
    batch = everyone_trains(random_batch(0, rows=1, positions=1, tokens=3, padding_buckets=0))
    mostly_tail = torch.tensor([[[0.1, 0.2, 0.0, 0.7]]], dtype=torch.float64).log()
    output = run("behaviour_cloning", replace(batch, expert_bucket_logprobs_btk=mostly_tail))
    assert output.loss == -batch.student_bucket_logprobs_btk[0, 0, 1]
    only_tail = torch.tensor([[[0.0, 0.0, 0.0, 1.0]]], dtype=torch.float64).log()
    output = run("behaviour_cloning", replace(batch, expert_bucket_logprobs_btk=only_tail))
    assert output.loss == 0
    assert output.diagnostics["positions_with_expert"] == 0


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("reverse_kl", {"expert_floor": 0.0}),
        ("jensen_shannon", {"expert_weight": 1.0}),
        ("jensen_shannon", {"expert_weight": 0.0}),
        ("behaviour_cloning", {"is_clip": 2.0}),
    ],
)
def test_wrong_options_are_refused(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=name):
        OBJECTIVES.build(name, options)
