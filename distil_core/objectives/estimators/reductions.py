"""Reduce per-token losses to one scalar, in the same way for every objective."""

from typing import Literal, Self

import torch
from pydantic import Field, PositiveFloat, model_validator
from torch import Tensor

from distil_core.objectives.base import ObjectiveOptions, ObjectiveOutput
from distil_core.objectives.estimators.matching import (
    MASS_TOLERANCE,
    MatchedDistributions,
    raise_wrong_mass,
)

LossNormalisation = Literal["rollouts", "tokens", "constant"]


class LossOptions(ObjectiveOptions):
    """Z of docs/method.md#objective, the same for all so that side-by-side runs compare."""

    loss_normalisation: LossNormalisation = "rollouts"
    """What the summed loss is divided by. 'rollouts': rows with a trained token that counts (for
    distillation: rows with an expert); the expected gradient is exactly that of L, and its scale
    grows with response length, which `max_grad_norm` should allow for. 'tokens': trained tokens
    that count; the scale is independent of length, but a batch's long responses dilute its short
    ones, a bias of 0.07 for a pair of rollouts (`python -m distil_core.theory`, table 1b) that
    vanishes as 1/batch. 'constant': `loss_constant`, for exact gradient accumulation over parts of
    unequal size."""
    loss_constant: PositiveFloat | None = Field(default=None, allow_inf_nan=False)
    """What the loss is divided by where loss_normalisation is 'constant'; null otherwise."""

    @model_validator(mode="after")
    def _constant_where_used(self) -> Self:
        if (self.loss_normalisation == "constant") != (self.loss_constant is not None):
            raise ValueError("loss_constant is given exactly when loss_normalisation is 'constant'")
        return self


class DistillationOptions(LossOptions):
    """What objectives share that read the expert's distributions."""

    is_clip: PositiveFloat = 2.0
    """Upper bound of the importance weight w_t = pi / mu (docs/method.md#objective). It acts only
    once the student has left the sampler. Measured at one stale sampler (table 1b): bias and spread
    0.14 and 2.27 without a bound, 0.17 and 0.85 at 2, 0.20 and 0.80 at 1. The share of tokens it
    acts on is the diagnostic `importance_clipped_fraction`."""


def reduce_loss(
    token_losses_bt: Tensor,
    mask_bt: Tensor,
    options: LossOptions,
    diagnostics: dict[str, Tensor],
    mass_errors_bt: Tensor | None = None,
) -> ObjectiveOutput:
    """The masked sum of the losses over Z, and the diagnostics as floats.

    token_losses_bt: [B, T] with gradient. mask_bt: [B, T] bool, the positions that count; where
        none does, the loss is 0 with a zero gradient.
    diagnostics: scalars. mass_errors_bt: [B, T]; `DataError` where one is beyond the tolerance.
    All scalars leave the device in one transfer, the only time the objective waits for it.
    """
    counted_bt = torch.where(mask_bt, token_losses_bt, 0.0)
    loss = counted_bt.sum() / _normaliser(mask_bt, options)
    scalars = {name: value.detach() for name, value in diagnostics.items()}
    if mass_errors_bt is not None and mass_errors_bt.numel():
        scalars["largest_expert_mass_error"] = mass_errors_bt.max()
    values = torch.stack([value.to(counted_bt.dtype) for value in scalars.values()]).tolist()
    readings = dict(zip(scalars, values, strict=True))
    # Written this way so that NaN is refused too.
    if mass_errors_bt is not None and not (
        readings.get("largest_expert_mass_error", 0.0) <= MASS_TOLERANCE
    ):
        raise_wrong_mass(mass_errors_bt)
    return ObjectiveOutput(loss, counted_bt.detach(), readings)


def distillation_diagnostics(
    matched: MatchedDistributions, weights_bt: Tensor, is_clip: float
) -> dict[str, Tensor]:
    """The diagnostics that every distillation objective reports besides its own."""
    mask_bt = matched.token_mask_bt
    return {
        "importance_weight": masked_mean(weights_bt, mask_bt),
        "importance_clipped_fraction": masked_mean((weights_bt >= is_clip).float(), mask_bt),
        "rollouts_with_expert": mask_bt.any(dim=1).sum(),
        "positions_with_expert": matched.local_mask_bt.sum(),
    }


def masked_mean(values_bt: Tensor, mask_bt: Tensor) -> Tensor:
    """Mean over the masked positions, 0 where there are none; scalar, no gradient."""
    return torch.where(mask_bt, values_bt.detach(), 0.0).sum() / mask_bt.sum().clamp(min=1)


def _normaliser(mask_bt: Tensor, options: LossOptions) -> Tensor | float:
    if options.loss_constant is not None:
        return options.loss_constant
    counted = mask_bt.any(dim=1) if options.loss_normalisation == "rollouts" else mask_bt
    return counted.sum().clamp(min=1)
