"""KL(pi || T) from the one token that was sampled: reverse KL's gradient without the distribution.

docs/method.md#other-objectives. With y_t ~ pi, log pi(y_t) - log T(y_t) is an unbiased estimate of
the divergence, and as an advantage on log pi(y_t) it estimates `reverse_kl`'s gradient:

    loss = (1/Z) * sum_t m_t * w_t * stop_gradient[log pi(y_t) - log T(y_t)] * log pi(y_t)
"""

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from distil_core.errors import DataError
from distil_core.objectives.base import Objective, ObjectiveBatch, ObjectiveOutput
from distil_core.objectives.estimators.divergences import unsupported_student_mass
from distil_core.objectives.estimators.matching import (
    MatchedDistributions,
    masked_importance_weights_bt,
    matched_distributions,
)
from distil_core.objectives.estimators.reductions import (
    DistillationOptions,
    distillation_diagnostics,
    masked_mean,
    reduce_loss,
)


class Options(DistillationOptions):
    """A bound where the divergence is infinite."""

    expert_floor: Annotated[float, Field(gt=0, lt=1)] = 1e-8
    """As in `reverse_kl`, so that both have the same expectation."""


class SampledReverseKL:
    """Callable on an `ObjectiveBatch` with `sampled_buckets_bt`.

    `DataError` without them, or where an expert's mass is not 1. The ratio is that of the sampled
    token's bucket, the tail included: then the expectation is the bucketed divergence's gradient.
    """

    def __init__(self, options: Options):
        self.options = options

    def __call__(self, batch: ObjectiveBatch) -> ObjectiveOutput:
        if batch.sampled_buckets_bt is None:
            raise DataError(
                "objective 'sampled_reverse_kl' needs sampled_buckets_bt, the bucket of each "
                "sampled token; the batch has None. Fill it where the batch is built."
            )
        matched = matched_distributions(batch)
        # The expert's samples say nothing about a divergence under the student.
        sampled_b1 = batch.sampled_rows_b[:, None]
        mask_bt, local_mask_bt = (
            mask_bt & sampled_b1 for mask_bt in (matched.token_mask_bt, matched.local_mask_bt)
        )
        log_ratios_bt = torch.where(
            local_mask_bt, self._log_ratios_bt(matched, batch.sampled_buckets_bt), 0.0
        )
        weights_bt = masked_importance_weights_bt(batch, mask_bt, self.options.is_clip)
        diagnostics = {
            "sampled_reverse_kl": masked_mean(log_ratios_bt, local_mask_bt),
            **distillation_diagnostics(matched, weights_bt, self.options.is_clip),
        }
        token_losses_bt = weights_bt * log_ratios_bt * matched.sampled_logprobs_bt
        return reduce_loss(
            token_losses_bt, mask_bt, self.options, diagnostics, matched.mass_errors_bt
        )

    def _log_ratios_bt(self, matched: MatchedDistributions, buckets_bt: Tensor) -> Tensor:
        """log pi(bucket) - log max(T(bucket), floor), no gradient; [B, T]."""
        # Padding may have any index; 0 is always valid.
        safe_bt1 = torch.where(matched.local_mask_bt, buckets_bt, 0)[..., None]
        student_btk = matched.student_logprobs_btk.detach()
        expert_bt = matched.expert_logprobs_btk.gather(-1, safe_bt1)[..., 0]
        # Buckets without expert mass count as one bucket, as in the full divergence.
        outside_bt = unsupported_student_mass(matched.expert_logprobs_btk, student_btk)
        student_bt = torch.where(
            torch.exp(expert_bt) > 0,
            student_btk.gather(-1, safe_bt1)[..., 0],
            torch.log(outside_bt.clamp(min=torch.finfo(outside_bt.dtype).eps)),
        )
        return student_bt - expert_bt.clamp(min=math.log(self.options.expert_floor))


def build(options: Options) -> Objective:
    """The objective, by name from the registry."""
    return SampledReverseKL(options)
