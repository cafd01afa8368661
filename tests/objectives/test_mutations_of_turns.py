"""Credit and baselines over turns, wrong in one place at a time, are caught (10 s)."""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from mutation import Mutation
from objective_batches import random_batch
from test_credit_over_turns import NAME, NaiveTurns, with_turns
from test_rewards_of_turns import NaiveReturns

from distil_core.objectives import OBJECTIVES, forward_cross_entropy_over_turns
from distil_core.objectives.estimators import turn_rewards, turns
from distil_core.testing.objective_batches import with_random_turns

OPTIONS: dict[str, Any] = {"discount": 0.7, "horizon": 3, "cost": "kl_divergence"}


def over_turns_holds() -> bool:
    """Loss against the loop over docs/method.md#turns, and what stands on padding is not read."""
    for seed, per, alignment in product(range(6), ("token", "turn"), ("token", "turn")):
        plain = random_batch(seed, rows=6, positions=7, tokens=3, padding_buckets=1)
        random = torch.Generator().manual_seed(seed)
        steps_bt = torch.randint(0, 2, (6, 7), generator=random)
        batch = with_turns(plain, steps_bt.cumsum(1))
        options = OPTIONS | {"discount_per": per, "baseline_alignment": alignment}
        resolved = OBJECTIVES.options(NAME, options).model_dump()
        expected = NaiveTurns(batch, resolved).forward_cross_entropy(resolved)
        found = OBJECTIVES.build(NAME, options)(batch).loss.item()
        if found != pytest.approx(expected, rel=1e-10, abs=1e-10):
            return False
    costs_bt = torch.tensor([[1.0, 2.0, 0.0]]).double()
    padded = turns.future_sum_by_turn_bt(costs_bt, torch.tensor([[4, 4, 0]]), 0.0, None)
    return padded.tolist() == [[2.0, 0.0, 0.0]]


def rewards_of_turns_hold() -> bool:
    """Loss against the loop over turns, with rows of the expert and any turn on padding."""
    for seed, normalisation in product(range(6), ("none", "standard_deviation")):
        batch = with_random_turns(random_batch(seed, rows=8, positions=7), seed)
        batch = replace(batch, by_expert_b=torch.arange(8) == 1)
        assert batch.turn_ids_bt is not None
        padded_bt = batch.turn_ids_bt.masked_fill(~batch.response_mask_bt, 99)
        options = {"credit": "turn", "turn_discount": 0.6} | {
            "advantage_normalisation": normalisation,
            "loss_normalisation": "rollouts",
            "clip_low": 0.1,
            "clip_high": 0.3,
        }
        expected, _ = NaiveReturns(batch, options).loss_and_gradient()
        objective = OBJECTIVES.build("grpo", options)
        try:
            found = objective(replace(batch, turn_ids_bt=padded_bt)).loss.item()
        except (RuntimeError, IndexError):
            return False
        if found != pytest.approx(expected, rel=1e-9, abs=1e-9):
            return False
    return True


MUTATIONS = [
    Mutation(
        "returns from the first turn on",
        rewards_of_turns_hold,
        turn_rewards.returns_bn,
        "returns[::-1]",
        "returns",
    ),
    Mutation(
        "returns without discount",
        rewards_of_turns_hold,
        turn_rewards.returns_bn,
        "discount * later_b",
        "later_b",
    ),
    Mutation(
        "the rollout's reward at every turn",
        rewards_of_turns_hold,
        turn_rewards.returns_bn,
        "torch.where(is_last_bn,",
        "torch.where(exists_bn,",
    ),
    Mutation(
        "turns that there are none of compared",
        rewards_of_turns_hold,
        turn_rewards.turn_advantages_bn,
        "group_baseline_bt(returns_bn, exists_bn,",
        "group_baseline_bt(returns_bn, torch.ones_like(exists_bn),",
    ),
    Mutation(
        "deviations over turns that there are none of",
        rewards_of_turns_hold,
        turn_rewards.turn_advantages_bn,
        "group_baseline_bt(centred_bn**2, exists_bn,",
        "group_baseline_bt(centred_bn**2, torch.ones_like(exists_bn),",
    ),
    Mutation(
        "every turn with the return of the first",
        rewards_of_turns_hold,
        turn_rewards.of_tokens_bt,
        "values_bn.gather(1, turns_bt.clamp(0, values_bn.shape[1] - 1))",
        "values_bn[:, :1].expand(turns_bt.shape)",
    ),
    Mutation(
        "turns of padding looked up",
        rewards_of_turns_hold,
        turn_rewards.of_tokens_bt,
        "turns_bt.clamp(0, values_bn.shape[1] - 1)",
        "turns_bt",
    ),
    Mutation(
        "the factor of the turn before left out",
        over_turns_holds,
        turns._faded_bt,
        "values_bt[:, positions:] * factors",
        "values_bt[:, positions:]",
    ),
    Mutation(
        "a discount of each token of a turn",
        over_turns_holds,
        turns._faded_bt,
        "turns_between.clamp(min=0)",
        "torch.full_like(turns_between, positions)",
    ),
    Mutation(
        "turns of padding read",
        over_turns_holds,
        turns._faded_bt,
        "turns_between.clamp(min=0)",
        "turns_between",
    ),
    Mutation(
        "windows combined without what lies between them",
        over_turns_holds,
        turns.future_sum_by_turn_bt,
        "_faded_bt(window_bt, turns_bt, covered, discount)",
        "_faded_bt(window_bt, turns_bt, covered, 1.0)",
    ),
    Mutation(
        "the own cost among the later ones",
        over_turns_holds,
        turns.future_sum_by_turn_bt,
        "_faded_bt(costs_bt.detach(), turns_bt, 1, discount), 1",
        "_faded_bt(costs_bt.detach(), turns_bt, 0, discount), 1",
    ),
    Mutation(
        "tokens aligned by turn alone",
        over_turns_holds,
        turns.turn_baseline_bt,
        "turns_bt * length + positions_t - starts_bt",
        "turns_bt * length",
    ),
    Mutation(
        "tokens aligned by place in the turn alone",
        over_turns_holds,
        turns.turn_baseline_bt,
        "turns_bt * length + positions_t - starts_bt",
        "(positions_t - starts_bt).expand_as(turns_bt)",
    ),
    Mutation(
        "rows that have no such token averaged",
        over_turns_holds,
        turns.turn_baseline_bt,
        "scatter(1, columns_bt, mask_bt)",
        "scatter(1, columns_bt, mask_bt) | True",
    ),
    Mutation(
        "the options exchanged, of credit",
        over_turns_holds,
        forward_cross_entropy_over_turns.ForwardCrossEntropyOverTurns._credits_bt,
        'discount_per == "token"',
        'baseline_alignment == "token"',
    ),
    Mutation(
        "the options exchanged, of baselines",
        over_turns_holds,
        forward_cross_entropy_over_turns.ForwardCrossEntropyOverTurns._baseline_bt,
        'baseline_alignment == "token"',
        'discount_per == "token"',
    ),
    Mutation(
        "the cost's choice ignored",
        over_turns_holds,
        forward_cross_entropy_over_turns.ForwardCrossEntropyOverTurns._advantages_bt,
        "costs_bt - expert_entropies_bt",
        "costs_bt",
    ),
]


def test_production_holds() -> None:
    assert over_turns_holds()
    assert rewards_of_turns_hold()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_mutation_is_caught(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation.require_caught(monkeypatch)
