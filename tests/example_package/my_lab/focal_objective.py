"""An objective: forward cross-entropy that looks at what the student has not learned yet.

loss = (1/Z) * sum_t m_t * (1 - overlap_t)^gamma * H(T_t, pi(.|s_t))
"""

import torch
from pydantic import Field

from distil_core.objectives.base import Objective, ObjectiveBatch, ObjectiveOutput
from distil_core.objectives.estimators.divergences import forward_cross_entropy
from distil_core.objectives.estimators.matching import matched_distributions
from distil_core.objectives.estimators.reductions import LossOptions, masked_mean, reduce_loss
from my_lab._focus import focus_bt


class Options(LossOptions):
    """What the loss looks at."""

    gamma: float = Field(default=1.0, ge=0, le=5)
    """How sharply it looks away from what is learned; 0 is plain cross-entropy."""


class FocalObjective:
    """Callable on an `ObjectiveBatch`."""

    def __init__(self, options: Options):
        self._options = options

    def __call__(self, batch: ObjectiveBatch) -> ObjectiveOutput:
        """Rows without an expert, and masked positions, have no loss."""
        matched = matched_distributions(batch)
        mask_bt = matched.local_mask_bt
        weights_bt = focus_bt(
            matched.student_logprobs_btk, matched.expert_logprobs_btk, self._options.gamma
        )
        losses_bt = weights_bt * forward_cross_entropy(
            matched.expert_logprobs_btk, matched.student_logprobs_btk
        )
        diagnostics = {
            "focus": masked_mean(weights_bt, mask_bt),
            "positions_with_expert": torch.as_tensor(mask_bt.sum()),
        }
        return reduce_loss(losses_bt, mask_bt, self._options, diagnostics, matched.mass_errors_bt)


def build(options: Options) -> Objective:
    """The objective."""
    return FocalObjective(options)
