"""Group-relative policy optimisation on the reward alone: RLVR with one number per rollout.

docs/method.md#other-objectives. With A the rollout's reward against its group's and
r_t = pi(y_t) / mu(y_t), both at the sampler's temperature:

    loss = -(1/Z) * sum_t m_t * min( r_t * A, clip(r_t, 1 - clip_low, 1 + clip_high) * A )

Reads rewards and the sampled tokens only: rows without an expert train like any other, and rows
that the expert wrote itself do not train at all.
"""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from distil_core.objectives.base import Objective, ObjectiveBatch, ObjectiveOutput
from distil_core.objectives.estimators.as_sampled import as_sampled_logprobs_bt
from distil_core.objectives.estimators.matching import at_least_float32
from distil_core.objectives.estimators.reductions import LossOptions, masked_mean, reduce_loss

# Rounding may give equal rewards a standard deviation that is not quite 0.
_LEAST_DEVIATION = 1e-6
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
        advantages_b = group_advantages_b(
            rewards_b, _sampled_groups_b(batch), options.advantage_normalisation
        )
        num_rollouts = sampled_b.sum().clamp(min=1)
        clipped_bt = ratios_bt.clamp(min=1.0 - options.clip_low, max=1.0 + options.clip_high)
        gains_bt = torch.minimum(
            ratios_bt * advantages_b[:, None], clipped_bt * advantages_b[:, None]
        )
        diagnostics = {
            "reward": rewards_b.sum() / num_rollouts,
            "advantage_magnitude": advantages_b.abs().sum() / num_rollouts,
            "importance_weight": masked_mean(ratios_bt, mask_bt),
            "clipped_fraction": masked_mean((ratios_bt != clipped_bt).float(), mask_bt),
        }
        return reduce_loss(-gains_bt, mask_bt, options, diagnostics)


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
    scaled_b = centred_b / deviations_b.clamp(min=_LEAST_DEVIATION)
    return torch.where(deviations_b < _LEAST_DEVIATION, 0.0, scaled_b).to(rewards_b.dtype)


def build(options: Options) -> Objective:
    """The objective, by name from the registry."""
    return GroupRelativePolicyOptimisation(options)
