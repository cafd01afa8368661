"""`forward_cross_entropy` whose credit is told of turns: discounted by them, compared within them.

docs/method.md#turns. For rollouts of a single response, and with its own options at 'token', it is
`forward_cross_entropy` to the bit.
"""

from typing import Literal

from torch import Tensor

from distil_core.objectives.base import Objective, ObjectiveBatch
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

    def _credits_bt(self, batch: ObjectiveBatch, costs_bt: Tensor) -> Tensor:
        if self.by_turn.discount_per == "token":
            return ForwardCrossEntropy._credits_bt(self, batch, costs_bt)
        options = self.by_turn
        return future_sum_by_turn_bt(
            costs_bt, turn_ids_bt(batch), options.discount, options.horizon
        )

    def _baseline_bt(
        self, batch: ObjectiveBatch, credits_bt: Tensor, credited_bt: Tensor
    ) -> Tensor:
        if self.by_turn.baseline_alignment == "token":
            return ForwardCrossEntropy._baseline_bt(self, batch, credits_bt, credited_bt)
        return turn_baseline_bt(
            credits_bt,
            credited_bt,
            batch.group_ids_b,
            turn_ids_bt(batch),
            self.by_turn.baseline,
        )


def build(options: Options) -> Objective:
    """The objective, by name from the registry."""
    return ForwardCrossEntropyOverTurns(options)
