"""`forward_cross_entropy` whose credit is told of turns: discounted by them, compared within them.

docs/method.md#turns. For rollouts of a single response, and with its own options at 'token', it is
`forward_cross_entropy` to the bit.
"""

from typing import Literal

from torch import Tensor

from distil_core.objectives.base import Objective, ObjectiveBatch
from distil_core.objectives.estimators.credit import (
    discounted_future_sum_bt,
    group_baseline_bt,
    scaled_advantage_bt,
)
from distil_core.objectives.estimators.matching import MatchedDistributions
from distil_core.objectives.estimators.turns import (
    future_sum_by_turn_bt,
    turn_baseline_bt,
    turn_ids_bt,
)
from distil_core.objectives.forward_cross_entropy import ForwardCrossEntropy
from distil_core.objectives.forward_cross_entropy import Options as SingleResponseOptions


class Options(SingleResponseOptions):
    """Those of `forward_cross_entropy`, and what counts as a step and as the same place."""

    discount_per: Literal["token", "turn"] = "token"
    """What `discount` is applied for. 'token': each of the policy's tokens further on. 'turn': each
    turn further on, so that the rest of a token's own turn counts whole. `horizon` is in tokens in
    either case."""
    baseline_alignment: Literal["token", "turn"] = "token"
    """Which tokens of a prompt's rollouts a baseline compares. 'token': those with the same number
    in the rollout. 'turn': those of the same turn with the same number within it, which stay
    beside each other where earlier turns differ in length."""


class ForwardCrossEntropyOverTurns(ForwardCrossEntropy):
    """As `ForwardCrossEntropy`."""

    def __init__(self, options: Options):
        super().__init__(options)
        self.by_turn = options

    def _advantages_bt(
        self,
        batch: ObjectiveBatch,
        matched: MatchedDistributions,
        cross_entropies_bt: Tensor,
        expert_entropies_bt: Tensor,
    ) -> tuple[Tensor, Tensor]:
        options, turns_bt = self.by_turn, turn_ids_bt(batch)
        credited_bt = matched.token_mask_bt & batch.sampled_rows_b[:, None]
        costs_bt = cross_entropies_bt
        if options.cost == "kl_divergence":
            costs_bt = costs_bt - expert_entropies_bt
        if options.discount_per == "turn":
            credits_bt = future_sum_by_turn_bt(
                costs_bt, turns_bt, options.discount, options.horizon
            )
        else:
            credits_bt = discounted_future_sum_bt(costs_bt, options.discount, options.horizon)
        if options.baseline_alignment == "turn":
            baseline_bt = turn_baseline_bt(
                credits_bt, credited_bt, batch.group_ids_b, turns_bt, options.baseline
            )
        else:
            baseline_bt = group_baseline_bt(
                credits_bt, credited_bt, batch.group_ids_b, options.baseline
            )
        advantages_bt = scaled_advantage_bt(
            credits_bt - baseline_bt, credited_bt, options.advantage_normalisation
        )
        return credits_bt, advantages_bt


def build(options: Options) -> Objective:
    """The objective, by name from the registry."""
    return ForwardCrossEntropyOverTurns(options)
