"""The reward objective, blends with it, and stopping at a non-finite loss."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from naive_reference import Naive
from objective_batches import batches, everyone_trains, examples, random_batch, with_leaves

from distil_core.errors import ConfigError, TrainingError
from distil_core.objectives import OBJECTIVES
from distil_core.objectives.base import ObjectiveBatch, ObjectiveOutput
from distil_core.training.finite_loss import require_finite_loss, rows_with_nonfinite_loss


def run(name: str, batch: ObjectiveBatch, **options: Any) -> ObjectiveOutput:
    output: ObjectiveOutput = OBJECTIVES.build(name, options)(batch)
    return output


def one_token(log_ratio: float, rewards: tuple[float, float] = (1.0, 0.0)) -> ObjectiveBatch:
    """A group of two one-token rollouts, both at this log ratio."""
    batch = everyone_trains(random_batch(0, rows=2, positions=1))
    return replace(
        batch,
        behaviour_logprobs_bt=batch.sampled_logprobs_bt - log_ratio,
        rewards_b=torch.tensor(rewards, dtype=torch.float64),
        group_ids_b=torch.zeros(2, dtype=torch.int64),
    )


@examples
@given(batches())
def test_grpo_is_the_formula(batch: ObjectiveBatch) -> None:
    options = {"clip_low": 0.1, "clip_high": 0.3}
    resolved: dict[str, Any] = OBJECTIVES.options("grpo", options).model_dump()
    found = run("grpo", batch, **options)
    assert found.loss.item() == pytest.approx(Naive(batch).grpo(resolved), abs=1e-10)


@pytest.mark.parametrize(
    ("log_ratio", "winner_moves", "loser_moves"),
    [(0.0, True, True), (1.0, False, True), (-1.0, True, False)],
)
def test_grpo_stops_at_the_clip(log_ratio: float, winner_moves: bool, loser_moves: bool) -> None:
    leaves, _, sampled = with_leaves(one_token(log_ratio))
    (gradient,) = torch.autograd.grad(run("grpo", leaves).loss, sampled)
    assert bool(gradient[0, 0] < 0) == winner_moves
    assert bool(gradient[1, 0] > 0) == loser_moves


def test_grpo_on_policy_is_the_policy_gradient() -> None:
    leaves, _, sampled = with_leaves(one_token(0.0, rewards=(0.75, 0.25)))
    plain = run("grpo", leaves, advantage_normalisation="none")
    (gradient,) = torch.autograd.grad(plain.loss, sampled)
    torch.testing.assert_close(
        gradient, torch.tensor([[-0.125], [0.125]], dtype=torch.float64), rtol=1e-12, atol=0
    )


def test_grpo_ignores_the_expert() -> None:
    batch = everyone_trains(random_batch(2))
    without = replace(
        batch,
        expert_mask_b=torch.zeros_like(batch.expert_mask_b),
        expert_bucket_logprobs_btk=torch.full_like(batch.expert_bucket_logprobs_btk, math.nan),
    )
    assert torch.equal(run("grpo", without).loss, run("grpo", batch).loss)


@pytest.mark.parametrize("rewards", [(0.1, 0.1), (1.0, 1.0)])
def test_grpo_equal_rewards_have_no_advantage(rewards: tuple[float, float]) -> None:
    leaves, _, sampled = with_leaves(one_token(0.3, rewards))
    (gradient,) = torch.autograd.grad(run("grpo", leaves).loss, sampled)
    assert not gradient.any()


def test_grpo_group_of_one_has_no_advantage() -> None:
    batch = replace(one_token(0.0), group_ids_b=torch.tensor([0, 1]))
    assert run("grpo", batch).loss == 0


@pytest.mark.parametrize("log_ratio", [200.0, -200.0])
def test_grpo_extreme_ratios_are_finite(log_ratio: float) -> None:
    batch = one_token(log_ratio)
    low = replace(
        batch,
        sampled_logprobs_bt=batch.sampled_logprobs_bt.float(),
        behaviour_logprobs_bt=batch.behaviour_logprobs_bt.float(),
    )
    leaves, _, sampled = with_leaves(low)
    output = run("grpo", leaves)
    torch.autograd.backward(output.loss)
    assert torch.isfinite(output.loss)
    assert sampled.grad is not None
    assert torch.isfinite(sampled.grad).all()


@examples
@given(batches())
def test_blend_is_the_weighted_sum(batch: ObjectiveBatch) -> None:
    distillation = {"weight": 0.5}
    blended = run(
        "blend",
        batch,
        distillation_options=distillation,
        grpo_options={"clip_high": 0.5},
        reward_weight=0.25,
    )
    first = run("forward_cross_entropy", batch, **distillation)
    second = run("grpo", batch, clip_high=0.5)
    torch.testing.assert_close(blended.loss, 0.75 * first.loss + 0.25 * second.loss)
    torch.testing.assert_close(
        blended.per_token_loss_bt,
        0.75 * first.per_token_loss_bt + 0.25 * second.per_token_loss_bt,
    )
    assert blended.diagnostics["grpo_loss"] == second.loss.item()
    assert "forward_cross_entropy_future_credit" in blended.diagnostics


@pytest.mark.parametrize(("reward_weight", "name"), [(0.0, "reverse_kl"), (1.0, "grpo")])
def test_blend_at_its_ends_is_one_objective(reward_weight: float, name: str) -> None:
    batch = everyone_trains(random_batch(1))
    blended = run("blend", batch, distillation="reverse_kl", reward_weight=reward_weight)
    torch.testing.assert_close(blended.loss, run(name, batch).loss)
    assert all(key.startswith(name) for key in blended.diagnostics)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "reward_weight"),
        ({"reward_weight": 1.5}, "reward_weight"),
        ({"reward_weight": 0.5, "distillation": "nothing"}, "unknown objective 'nothing'"),
        ({"reward_weight": 0.5, "distillation": "grpo"}, "cannot be 'grpo'"),
        ({"reward_weight": 0.5, "distillation": "blend"}, "cannot be 'blend'"),
        ({"reward_weight": 0.5, "distillation_options": {"wieght": 1}}, "wieght"),
        ({"reward_weight": 0.5, "grpo_options": {"clip_low": -1}}, "clip_low"),
    ],
)
def test_blend_refuses_wrong_parts_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        OBJECTIVES.options("blend", options)


def test_blend_compares_rollouts_where_a_part_does() -> None:
    def compares(**options: Any) -> bool:
        resolved: Any = OBJECTIVES.options("blend", options)
        return bool(resolved.compares_rollouts)

    assert compares(reward_weight=0.1, distillation="reverse_kl")
    assert compares(reward_weight=0.0)
    assert not compares(reward_weight=0.0, distillation="reverse_kl")


def test_names_of_all_objectives() -> None:
    assert OBJECTIVES.names() == [
        "behaviour_cloning",
        "blend",
        "forward_cross_entropy",
        "forward_cross_entropy_over_turns",
        "grpo",
        "jensen_shannon",
        "reverse_kl",
        "sampled_reverse_kl",
    ]


def test_nonfinite_loss_names_its_rows_and_only_those() -> None:
    batch = everyone_trains(random_batch(4, rows=4))
    batch = replace(batch, group_ids_b=torch.zeros(4, dtype=torch.int64))
    student = batch.student_bucket_logprobs_btk.clone()
    student[1] = -torch.inf
    sampled = batch.sampled_logprobs_bt.clone()
    sampled[3, 0] = math.nan
    broken = replace(batch, student_bucket_logprobs_btk=student, sampled_logprobs_bt=sampled)
    output = run("forward_cross_entropy", broken, advantage_normalisation="standard_deviation")
    assert rows_with_nonfinite_loss(output) == [1, 3]
    with pytest.raises(TrainingError, match=r"rows rollout-b, rollout-d .* were not changed"):
        require_finite_loss(output, [f"rollout-{letter}" for letter in "abcd"])
    with pytest.raises(TrainingError, match="rows 1, 3"):
        require_finite_loss(output)


def test_finite_loss_passes_and_overflow_of_the_sum_is_told_apart() -> None:
    output = run("forward_cross_entropy", random_batch(0))
    require_finite_loss(output)
    with pytest.raises(TrainingError, match="sum overflowed"):
        require_finite_loss(replace(output, loss=torch.tensor(math.inf)))
