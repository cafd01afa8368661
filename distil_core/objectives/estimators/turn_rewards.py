"""Rewards that an environment gave single turns, and what each turn earns from there on.

docs/method.md#turns. An objective whose `Options` have the property `reads_turn_rewards` is
refused in settings without an environment, and tried with such rewards by its contract.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from distil_core.errors import DataError
from distil_core.objectives.base import ObjectiveBatch
from distil_core.objectives.estimators.credit import group_baseline_bt
from distil_core.objectives.estimators.turns import BatchOfTurns

# Rounding may give equal returns a standard deviation that is not quite 0.
_LEAST_DEVIATION = 1e-6


@dataclass(frozen=True)
class BatchOfTurnRewards(BatchOfTurns):
    """Of rollouts in an environment that gave some turn of some rollout a reward. `n` are the turns
    of the rollout that has most of them.

    turn_rewards_bn: float in [0, 1], the environment's of each turn; 0 where it gave none, and past
        a row's last turn. They come beside `rewards_b`.
    num_turns_b: int64, at least 1; rows of a single response have 1.
    """

    turn_rewards_bn: Tensor | None = None
    num_turns_b: Tensor | None = None


def returns_bn(batch: ObjectiveBatch, rewards_b: Tensor, discount: float) -> tuple[Tensor, Tensor]:
    """What each turn earns from there on, float64 [B, N], and which turns there are, bool [B, N].

    G_k = sum over j >= k of discount^(j - k) * r_j, with r_j the turn's reward, 0 where it has
    none, and the rollout's own reward added to that of the last turn. The two are never the same
    reward: what an environment that judges says at the end is the rollout's alone.

    rewards_b: the rollouts', 0 on rows that the expert wrote. Raises `DataError` for a batch
    without rewards of turns.
    """
    turn_rewards_bn, num_turns_b = _rewards_of_turns(batch)
    numbers_n = torch.arange(turn_rewards_bn.shape[1], device=num_turns_b.device)
    exists_bn = numbers_n < num_turns_b[:, None]
    earned_bn = torch.where(
        exists_bn & batch.sampled_rows_b[:, None], turn_rewards_bn.double(), 0.0
    )
    is_last_bn = numbers_n == num_turns_b[:, None] - 1
    earned_bn = earned_bn + torch.where(is_last_bn, rewards_b.double()[:, None], 0.0)
    later_b, returns = torch.zeros_like(earned_bn[:, 0]), []
    for earned_b in reversed(earned_bn.unbind(1)):
        later_b = earned_b + discount * later_b
        returns.append(later_b)
    return torch.stack(returns[::-1], dim=1), exists_bn


def turn_advantages_bn(
    returns_bn: Tensor,
    exists_bn: Tensor,
    group_ids_b: Tensor,
    normalisation: Literal["none", "standard_deviation"],
) -> Tensor:
    """Each turn's return minus the mean over the same turn of its group's rollouts, over their
    population deviation if asked; float64 [B, N].

    A rollout that ended earlier has no such turn and is in neither; a turn that no other rollout of
    the group has, has no advantage.
    """
    means_bn = group_baseline_bt(returns_bn, exists_bn, group_ids_b, "group_mean")
    centred_bn = torch.where(exists_bn, returns_bn - means_bn, 0.0)
    if normalisation == "none":
        return centred_bn
    variances_bn = group_baseline_bt(centred_bn**2, exists_bn, group_ids_b, "group_mean")
    deviations_bn = torch.sqrt(variances_bn)
    return over_deviations(centred_bn, deviations_bn)


def over_deviations(centred: Tensor, deviations: Tensor) -> Tensor:
    """In units of the group's deviation; 0 where the group's returns are equal."""
    scaled = centred / deviations.clamp(min=_LEAST_DEVIATION)
    return torch.where(deviations < _LEAST_DEVIATION, 0.0, scaled)


def of_tokens_bt(values_bn: Tensor, turns_bt: Tensor) -> Tensor:
    """Each token's value, that of its turn; anything on padding; [B, T]."""
    return values_bn.gather(1, turns_bt.clamp(0, values_bn.shape[1] - 1))


def _rewards_of_turns(batch: ObjectiveBatch) -> tuple[Tensor, Tensor]:
    if isinstance(batch, BatchOfTurnRewards):
        rewards_bn, num_turns_b = batch.turn_rewards_bn, batch.num_turns_b
        if rewards_bn is not None and num_turns_b is not None:
            return rewards_bn, num_turns_b
    raise DataError(
        "objective option credit: turn needs rewards of single turns, and no turn of the rollouts "
        "that are trained on has one besides its rollout's. Does context.environment give any, and "
        "was the table made since they are kept? Set credit: rollout, or run tabulate again"
    )
