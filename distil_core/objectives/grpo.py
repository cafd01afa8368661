"""Group-relative policy optimisation on the reward alone: RLVR with one number per rollout.

docs/method.md#other-objectives. With A the rollout's reward against its group's and
r_t = pi(y_t) / mu(y_t), both at the sampler's temperature:

    loss = -(1/Z) * sum_t m_t * min( r_t * A, clip(r_t, 1 - clip_low, 1 + clip_high) * A )

With `credit: turn`, A is that of the token's turn: what the rollout earns from this turn on against
what the group's other rollouts earn from their turn of the same number on (docs/method.md#turns).
Reads rewards and the sampled tokens only: rows without an expert train like any other, and rows
that the expert wrote itself do not train at all.
"""

from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from distil_core.config.models import added
from distil_core.objectives.base import Objective, ObjectiveBatch, ObjectiveOutput
from distil_core.objectives.estimators.as_sampled import as_sampled_logprobs_bt
from distil_core.objectives.estimators.matching import at_least_float32
from distil_core.objectives.estimators.reductions import LossOptions, masked_mean, reduce_loss
from distil_core.objectives.estimators.turn_rewards import (
    of_tokens_bt,
    over_deviations,
    returns_bn,
    turn_advantages_bn,
)
from distil_core.objectives.estimators.turns import turn_ids_bt

# exp of this is finite in float32; clipping acts far earlier.
_LARGEST_LOG_RATIO = 20.0


class Options(LossOptions):
    """Group-relative advantage on the reward, clipped."""

    scores_as_sampled: ClassVar[bool] = True

    clip_low: Annotated[float, Field(ge=0, le=1)] = 0.2
    """How far below 1 a ratio still earns. 0.2 is PPO's and GRPO's own."""
    clip_high: Annotated[float, Field(ge=0)] = 0.2
    """How far above 1 a ratio still earns. 0.2 is PPO's and GRPO's own."""
    advantage_normalisation: Literal["none", "standard_deviation"] = "standard_deviation"
    """`standard_deviation` (GRPO's own) divides by the group's deviation; `none` leaves reward
    units, and with `loss_normalisation: rollouts` the plain unbiased policy gradient with a
    group-mean baseline."""
    credit: Literal["rollout", "turn"] = added("rollout")
    """What a token is credited with. 'rollout': the rollout's reward. 'turn': what is earned from
    the token's turn on, which is the environment's rewards of this turn and later ones and the
    rollout's own reward at the last turn, compared with the same turn of the group's rollouts that
    have it. For environments that give single turns rewards."""
    turn_discount: Annotated[float, Field(ge=0, le=1)] = added(1.0)
    """With credit 'turn', how much a reward counts for the turn before it, and so on; 0 credits a
    turn with its own reward alone."""

    @model_validator(mode="after")
    def _discount_where_used(self) -> Self:
        if self.credit == "rollout" and self.turn_discount != 1:
            raise ValueError("turn_discount is used with credit: turn alone")
        return self

    @property
    def reads_turn_rewards(self) -> bool:
        """Whether it needs rewards of single turns."""
        return self.credit == "turn"

    @property
    def compares_rollouts(self) -> bool:
        """A group of one has no advantage, so it would train on zero gradients."""
        return True


class GroupRelativePolicyOptimisation:
    """Callable on an `ObjectiveBatch`. A group of one, or of equal rewards, has no advantage."""

    def __init__(self, options: Options):
        self.options = options

    def __call__(self, batch: ObjectiveBatch) -> ObjectiveOutput:
        options, sampled_b = self.options, batch.sampled_rows_b
        mask_bt = batch.response_mask_bt & sampled_b[:, None]
        # Padding may be NaN, so it is masked before the arithmetic.
        sampled_bt = torch.where(mask_bt, at_least_float32(as_sampled_logprobs_bt(batch)), 0.0)
        behaviour_bt = torch.where(mask_bt, at_least_float32(batch.behaviour_logprobs_bt), 0.0)
        log_ratios_bt = (sampled_bt - behaviour_bt).clamp(max=_LARGEST_LOG_RATIO)
        ratios_bt = torch.exp(log_ratios_bt)
        rewards_b = torch.where(sampled_b, at_least_float32(batch.rewards_b), 0.0)
        advantages_bt, found = self._advantages_bt(batch, rewards_b)
        num_rollouts = sampled_b.sum().clamp(min=1)
        clipped_bt = ratios_bt.clamp(min=1.0 - options.clip_low, max=1.0 + options.clip_high)
        gains_bt = torch.minimum(ratios_bt * advantages_bt, clipped_bt * advantages_bt)
        diagnostics = {
            "reward": rewards_b.sum() / num_rollouts,
            **found,
            "importance_weight": masked_mean(ratios_bt, mask_bt),
            "clipped_fraction": masked_mean((ratios_bt != clipped_bt).float(), mask_bt),
        }
        return reduce_loss(-gains_bt, mask_bt, options, diagnostics)

    def _advantages_bt(
        self, batch: ObjectiveBatch, rewards_b: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Of each token, [B, T], or [B, 1] where a rollout's tokens have the same; and figures."""
        options, sampled_b, groups_b = self.options, batch.sampled_rows_b, _sampled_groups_b(batch)
        num_rollouts = sampled_b.sum().clamp(min=1)
        if options.credit == "rollout":
            advantages_b = group_advantages_b(rewards_b, groups_b, options.advantage_normalisation)
            magnitude = advantages_b.abs().sum() / num_rollouts
            return advantages_b[:, None], {"advantage_magnitude": magnitude}
        earned_bn, exists_bn = returns_bn(batch, rewards_b, options.turn_discount)
        advantages_bn = turn_advantages_bn(
            earned_bn, exists_bn, groups_b, options.advantage_normalisation
        ).to(rewards_b.dtype)
        figures = {
            "advantage_magnitude": masked_mean(advantages_bn.abs(), exists_bn & sampled_b[:, None]),
            "return": earned_bn[:, 0].sum() / num_rollouts,
        }
        return of_tokens_bt(advantages_bn, turn_ids_bt(batch)), figures


def _sampled_groups_b(batch: ObjectiveBatch) -> Tensor:
    """Each row's group. A row that the expert wrote has a group of its own, and so no advantage."""
    if batch.by_expert_b is None:
        return batch.group_ids_b
    row_b = torch.arange(len(batch.group_ids_b), device=batch.group_ids_b.device)
    return torch.where(batch.by_expert_b, batch.group_ids_b.min() - 1 - row_b, batch.group_ids_b)


def group_advantages_b(
    rewards_b: Tensor, group_ids_b: Tensor, normalisation: Literal["none", "standard_deviation"]
) -> Tensor:
    """Each reward minus its group's mean, over its group's population deviation if asked; [B]."""
    # float64, because autocast would turn a float32 product into half precision.
    members_bb = (group_ids_b[:, None] == group_ids_b[None, :]).double()
    counts_b = members_bb.sum(dim=1)
    centred_b = rewards_b - members_bb @ rewards_b.double() / counts_b
    deviations_b = torch.sqrt(members_bb @ centred_b**2 / counts_b)
    if normalisation == "none":
        return centred_b.to(rewards_b.dtype)
    return over_deviations(centred_b, deviations_b).to(rewards_b.dtype)


def build(options: Options) -> Objective:
    """The objective, by name from the registry."""
    return GroupRelativePolicyOptimisation(options)
