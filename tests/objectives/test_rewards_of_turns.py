"""Credit for what is earned from a turn on, against loops over turns (20 s)."""

import math
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from naive_reference import Naive
from objective_batches import batches, examples, random_batch, with_leaves

from distil_core.errors import ConfigError, DataError
from distil_core.objectives import OBJECTIVES
from distil_core.objectives.base import ObjectiveBatch
from distil_core.objectives.estimators.turn_rewards import BatchOfTurnRewards
from distil_core.objectives.estimators.turns import BatchOfTurns
from distil_core.testing.objective_batches import with_random_turns


@st.composite
def rewarded_batches(draw: st.DrawFn) -> BatchOfTurnRewards:
    """Some with rows that the expert wrote."""
    batch = with_random_turns(draw(batches()), draw(st.integers(0, 1000)))
    if draw(st.booleans()):
        return batch
    by_expert_b = torch.arange(len(batch.rewards_b)) % 3 == 1
    return replace(batch, by_expert_b=by_expert_b)


@st.composite
def turn_options(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "credit": "turn",
        "turn_discount": draw(st.sampled_from([0.0, 0.6, 1.0])),
        "advantage_normalisation": draw(st.sampled_from(["none", "standard_deviation"])),
        "loss_normalisation": draw(st.sampled_from(["rollouts", "tokens"])),
        "clip_low": 0.1,
        "clip_high": 0.3,
    }


class NaiveReturns(Naive):
    """Credit of docs/method.md#turns, turn by turn."""

    def __init__(self, batch: BatchOfTurnRewards, options: dict[str, Any]):
        super().__init__(batch)
        assert batch.turn_ids_bt is not None
        assert batch.turn_rewards_bn is not None
        assert batch.num_turns_b is not None
        self.turns = batch.turn_ids_bt.tolist()
        self.earned = [
            [float(reward) for reward in rewards[:count]]
            for rewards, count in zip(
                batch.turn_rewards_bn.tolist(), batch.num_turns_b.tolist(), strict=True
            )
        ]
        self.students = batch.sampled_rows_b.tolist()
        self.options = options

    def earned_from(self, b: int, turn: int) -> float:
        """G of the turn."""
        last = len(self.earned[b]) - 1
        total = 0.0
        for later in range(turn, last + 1):
            reward = self.earned[b][later] + (self.rewards[b] if later == last else 0.0)
            total += self.options["turn_discount"] ** (later - turn) * reward
        return total

    def advantage(self, b: int, turn: int) -> float:
        members = [
            self.earned_from(other, turn)
            for other in self.rows
            if self.students[other] and self.same_group(b, other) and turn < len(self.earned[other])
        ]
        mean = sum(members) / len(members)
        deviation = math.sqrt(sum((one - mean) ** 2 for one in members) / len(members))
        centred = self.earned_from(b, turn) - mean
        if self.options["advantage_normalisation"] == "none":
            return centred
        return centred / deviation if deviation > 1e-6 else 0.0

    def loss_and_gradient(self) -> tuple[float, list[list[float]]]:
        """By the sampled tokens' log-probabilities."""
        total, rows_used, tokens_used = 0.0, set(), 0
        gradient = [[0.0 for _ in self.positions] for _ in self.rows]
        for b in self.rows:
            for t in self.positions:
                if not self.response[b][t] or not self.students[b]:
                    continue
                rows_used.add(b)
                tokens_used += 1
                advantage = self.advantage(b, self.turns[b][t])
                ratio = math.exp(self.sampled[b][t] - self.behaviour[b][t])
                low, high = 1 - self.options["clip_low"], 1 + self.options["clip_high"]
                clipped = min(max(ratio, low), high)
                total -= min(ratio * advantage, clipped * advantage)
                if ratio * advantage <= clipped * advantage:
                    gradient[b][t] = -ratio * advantage
        by_token = self.options["loss_normalisation"] == "tokens"
        used = max(tokens_used if by_token else len(rows_used), 1)
        return total / used, [[value / used for value in row] for row in gradient]


@examples
@given(rewarded_batches(), turn_options())
def test_loss_and_gradient_are_the_formula(
    batch: BatchOfTurnRewards, options: dict[str, Any]
) -> None:
    expected, gradient = NaiveReturns(batch, options).loss_and_gradient()
    leaves, student, sampled = with_leaves(batch)
    output = OBJECTIVES.build("grpo", options)(leaves)
    assert output.loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)
    torch.autograd.backward(output.loss)
    assert student.grad is None
    assert sampled.grad is not None
    torch.testing.assert_close(
        sampled.grad, torch.tensor(gradient, dtype=torch.float64), rtol=1e-8, atol=1e-9
    )


def of_one_turn(batch: ObjectiveBatch) -> BatchOfTurnRewards:
    rows = len(batch.rewards_b)
    return BatchOfTurnRewards(
        **vars(batch),
        turn_rewards_bn=torch.zeros(rows, 1, dtype=torch.float64),
        num_turns_b=torch.ones(rows, dtype=torch.int64),
    )


@examples
@given(batches(), st.sampled_from(["none", "standard_deviation"]))
def test_one_turn_is_credited_as_a_rollout(batch: ObjectiveBatch, normalisation: str) -> None:
    """Without a reward of its own, and beside rows of several turns."""
    options = {"advantage_normalisation": normalisation}
    expected = OBJECTIVES.build("grpo", options)(batch)
    objective = OBJECTIVES.build("grpo", options | {"credit": "turn"})
    found = objective(of_one_turn(batch))
    assert found.loss.item() == pytest.approx(expected.loss.item(), rel=1e-9, abs=1e-9)
    torch.testing.assert_close(
        found.per_token_loss_bt, expected.per_token_loss_bt, rtol=1e-9, atol=1e-9
    )
    for name in ("reward", "advantage_magnitude", "clipped_fraction"):
        assert found.diagnostics[name] == pytest.approx(expected.diagnostics[name], abs=1e-9)
    # Rewards that are all at the last turn, of rollouts with as many turns, are the rollout's.
    wide = replace(
        of_one_turn(batch),
        turn_rewards_bn=torch.zeros(len(batch.rewards_b), 3, dtype=torch.float64),
        num_turns_b=torch.full((len(batch.rewards_b),), 3),
        turn_ids_bt=torch.arange(batch.response_mask_bt.shape[1])
        .clamp(max=2)
        .expand(batch.response_mask_bt.shape),
    )
    torch.testing.assert_close(
        objective(wide).per_token_loss_bt, expected.per_token_loss_bt, rtol=1e-9, atol=1e-9
    )


def by_hand(**changes: Any) -> BatchOfTurnRewards:
    """Three rollouts of one prompt, on policy: two turns, two turns, one."""
    plain = random_batch(0, rows=3, positions=3)
    return BatchOfTurnRewards(
        **vars(
            replace(
                plain,
                behaviour_logprobs_bt=plain.sampled_logprobs_bt,
                response_mask_bt=torch.tensor([[True] * 3, [True] * 3, [True, False, False]]),
                rewards_b=torch.tensor([1.0, 0.0, 0.5], dtype=torch.float64),
                group_ids_b=torch.zeros(3, dtype=torch.int64),
            )
        ),
        turn_ids_bt=torch.tensor([[0, 0, 1], [0, 1, 1], [0, 7, 7]]),
        turn_rewards_bn=torch.tensor([[0.25, 0.0], [0.5, 0.75], [0.0, 0.0]], dtype=torch.float64),
        num_turns_b=torch.tensor([2, 2, 1]),
        **changes,
    )


def test_returns_by_hand() -> None:
    """They are 1.25 then 1; 1.25 then 0.75; and 0.5 of the only turn."""
    options = {"credit": "turn", "advantage_normalisation": "none"}
    output = OBJECTIVES.build("grpo", options)(by_hand())
    assert output.per_token_loss_bt.tolist() == [
        [-0.25, -0.25, -0.125],
        [-0.25, 0.125, 0.125],
        [0.5, 0.0, 0.0],
    ]
    assert output.diagnostics["return"] == pytest.approx(1.0)
    assert output.diagnostics["advantage_magnitude"] == pytest.approx(1.25 / 5)


def test_a_rollout_that_does_not_train_is_still_compared_with() -> None:
    """As one that was cut, with `truncated_responses: mask`."""
    batch = by_hand()
    masked_bt = batch.response_mask_bt.clone()
    masked_bt[2] = False
    options = {"credit": "turn", "advantage_normalisation": "none"}
    objective = OBJECTIVES.build("grpo", options)
    found = objective(replace(batch, response_mask_bt=masked_bt)).per_token_loss_bt
    assert torch.equal(found[:2], objective(batch).per_token_loss_bt[:2])
    assert not found[2].any()


def test_blend_has_the_option_too() -> None:
    batch = by_hand()
    grpo = OBJECTIVES.build("grpo", {"credit": "turn"})(batch)
    forward = OBJECTIVES.build("forward_cross_entropy", {})(batch)
    options = {"reward_weight": 0.25, "grpo_options": {"credit": "turn"}}
    found = OBJECTIVES.build("blend", options)(batch)
    expected = 0.75 * forward.loss.item() + 0.25 * grpo.loss.item()
    assert found.loss.item() == pytest.approx(expected, rel=1e-6)
    assert found.diagnostics["grpo_return"] == grpo.diagnostics["return"]


@pytest.mark.parametrize(
    ("name", "options", "reads"),
    [
        ("grpo", {}, False),
        ("grpo", {"credit": "turn"}, True),
        ("blend", {"reward_weight": 0.5}, False),
        ("blend", {"reward_weight": 0.5, "grpo_options": {"credit": "turn"}}, True),
        ("blend", {"reward_weight": 0.0, "grpo_options": {"credit": "turn"}}, False),
        (
            "blend",
            {
                "reward_weight": {"start": 0.0, "end": 0.5, "over_iterations": 2},
                "grpo_options": {"credit": "turn"},
            },
            True,
        ),
    ],
)
def test_options_say_what_they_read(name: str, options: dict[str, Any], reads: bool) -> None:
    assert OBJECTIVES.options(name, options).reads_turn_rewards == reads


@pytest.mark.parametrize("name", ["grpo", "blend"])
def test_batches_without_rewards_of_turns_are_refused(name: str) -> None:
    options: dict[str, Any] = {"credit": "turn"}
    if name == "blend":
        options = {"reward_weight": 0.5, "grpo_options": options}
    objective = OBJECTIVES.build(name, options)
    rewarded = by_hand()
    names = [field.name for field in fields(BatchOfTurns)]
    in_turns = BatchOfTurns(**{name: getattr(rewarded, name) for name in names})
    for batch in (random_batch(0), in_turns, replace(rewarded, turn_rewards_bn=None)):
        with pytest.raises(DataError, match=r"credit: turn needs rewards .*credit: rollout"):
            objective(batch)


def test_settings_without_it_are_written_as_they_were() -> None:
    assert not {"credit", "turn_discount"} & OBJECTIVES.options("grpo", {}).model_dump().keys()
    chosen = OBJECTIVES.options("grpo", {"credit": "turn", "turn_discount": 0.5}).model_dump()
    assert (chosen["credit"], chosen["turn_discount"]) == ("turn", 0.5)


def test_a_discount_that_nothing_reads_is_refused() -> None:
    with pytest.raises(ConfigError, match="turn_discount is used with credit: turn alone"):
        OBJECTIVES.options("grpo", {"turn_discount": 0.5})
