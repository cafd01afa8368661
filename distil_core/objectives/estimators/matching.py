"""Prepare a batch for computing: precision, masks, and the expert's mass, checked once."""

from dataclasses import dataclass

import torch
from torch import Tensor

from distil_core.errors import DataError
from distil_core.objectives.base import ObjectiveBatch, importance_weights_bt

# Stored log-probabilities may be bfloat16 (relative error 2^-9); their masses sum to 1 within this.
MASS_TOLERANCE = 1e-2


@dataclass(frozen=True)
class MatchedDistributions:
    """Expert and student over the same buckets, in float32 or float64.

    student_logprobs_btk: with gradient; 0 at positions outside `local_mask_bt`.
    expert_logprobs_btk: sums to 1 exactly where `local_mask_bt`, `-inf` elsewhere.
    sampled_logprobs_bt: with gradient; 0 outside `token_mask_bt`.
    token_mask_bt: trained tokens of the rows whose expert says something at any of them. Rows whose
        expert is silent are left out: their credit of 0 would look like perfect agreement.
    local_mask_bt: those positions where the expert says something, that is, has any mass.
    mass_errors_bt: |stored expert mass - 1| where `local_mask_bt`, 0 elsewhere.
    """

    student_logprobs_btk: Tensor
    expert_logprobs_btk: Tensor
    sampled_logprobs_bt: Tensor
    token_mask_bt: Tensor
    local_mask_bt: Tensor
    mass_errors_bt: Tensor


def matched_distributions(batch: ObjectiveBatch) -> MatchedDistributions:
    """`batch` in float32 at least, with masked values neutral and the expert renormalised.

    Padding may hold anything, NaN included: it is replaced before any arithmetic, so that it
    reaches neither a value nor a gradient. Nothing here waits for the device.
    """
    student_btk = at_least_float32(batch.student_bucket_logprobs_btk)
    expert_btk = batch.expert_bucket_logprobs_btk.detach().to(student_btk.dtype)
    mass_bt = torch.exp(expert_btk).sum(-1)
    local_mask_bt = batch.response_mask_bt & batch.expert_mask_b[:, None] & (mass_bt != 0)
    token_mask_bt = batch.response_mask_bt & local_mask_bt.any(dim=1, keepdim=True)
    local_mask_btk = local_mask_bt[..., None]
    normalised_btk = expert_btk - torch.log(mass_bt)[..., None]
    return MatchedDistributions(
        student_logprobs_btk=torch.where(local_mask_btk, student_btk, 0.0),
        expert_logprobs_btk=torch.where(local_mask_btk, normalised_btk, -torch.inf),
        sampled_logprobs_bt=torch.where(
            token_mask_bt, at_least_float32(batch.sampled_logprobs_bt), 0.0
        ),
        token_mask_bt=token_mask_bt,
        local_mask_bt=local_mask_bt,
        mass_errors_bt=torch.where(local_mask_bt, (mass_bt - 1.0).abs(), 0.0),
    )


def masked_importance_weights_bt(batch: ObjectiveBatch, mask_bt: Tensor, is_clip: float) -> Tensor:
    """w_t of docs/method.md#objective in float32 or float64, 0 outside `mask_bt`; [B, T], no
    gradient."""
    return torch.where(mask_bt, at_least_float32(importance_weights_bt(batch, is_clip)), 0.0)


def at_least_float32(values: Tensor) -> Tensor:
    """`values` in float32 or wider: half precision cannot sum thousands of buckets."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def raise_wrong_mass(mass_errors_bt: Tensor) -> None:
    """Raise `DataError`, naming the rows whose expert is not a distribution."""
    wrong_b = ~(mass_errors_bt <= MASS_TOLERANCE).all(dim=1)
    rows = wrong_b.nonzero().flatten().tolist()
    raise DataError(
        f"expert mass must be 1 within {MASS_TOLERANCE:g} at every position; rows {rows} of the "
        f"batch are off by up to {mass_errors_bt.max().item():.3g}. The feedback table is damaged "
        "or its tail mass was not computed from the same distribution: tabulate it again."
    )
