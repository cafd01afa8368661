"""The part shared by objectives that match the expert locally, without future credit."""

from collections.abc import Callable

import torch
from torch import Tensor

from distil_core.objectives.base import ObjectiveBatch, ObjectiveOutput
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


def local_objective_output(
    batch: ObjectiveBatch,
    options: DistillationOptions,
    name: str,
    divergence: Callable[[MatchedDistributions], Tensor],
) -> ObjectiveOutput:
    """(1/Z) * sum_t m_t * w_t * divergence_t, 0 where the expert is silent.

    divergence: maps the matched distributions to [B, T], with gradient through the student's whole
        distribution. Its mean is the diagnostic called `name`.
    """
    matched = matched_distributions(batch)
    mask_bt = matched.token_mask_bt
    divergences_bt = torch.where(matched.local_mask_bt, divergence(matched), 0.0)
    weights_bt = masked_importance_weights_bt(batch, mask_bt, options.is_clip)
    diagnostics = {
        name: masked_mean(divergences_bt, matched.local_mask_bt),
        **distillation_diagnostics(matched, weights_bt, options.is_clip),
    }
    return reduce_loss(
        weights_bt * divergences_bt, mask_bt, options, diagnostics, matched.mass_errors_bt
    )
