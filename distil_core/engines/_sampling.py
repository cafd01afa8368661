"""Draw one token a row by inverse transform, from random numbers that belong to the request."""

import torch
from torch import Tensor

from distil_core.errors import EngineRefusedError

_MASS_UNIT = 2.0**52


def normalised_logprobs(logits: Tensor) -> Tensor:
    """log softmax over the last axis, float64. Raises `EngineError` where the logits give no
    distribution."""
    logprobs = torch.log_softmax(logits.double(), dim=-1)
    if bool(torch.isnan(logprobs).any()):
        raise EngineRefusedError(
            "the policy's logits hold NaN or infinity: its weights are damaged, or too large for "
            "compute.dtype; nothing was written"
        )
    return logprobs


def cumulative_mass(logprobs: Tensor) -> Tensor:
    """Sums of exp(logprobs) up to and including each entry of the last axis, float64.

    They are counted in integer units of 2^-52, so that every order of addition gives the same sum.
    On a GPU, torch's deterministic mode allows this and refuses cumulative sums of floats.
    """
    units = (logprobs.double().exp() * _MASS_UNIT).round().long()
    return units.cumsum(-1).double() / _MASS_UNIT


def mass_before(sorted_logprobs: Tensor) -> Tensor:
    """The mass of all more likely entries, float64; 0 for the first one."""
    return torch.nn.functional.pad(cumulative_mass(sorted_logprobs)[..., :-1], (1, 0))


def sampling_logprobs(logits_bv: Tensor, temperature: float, top_p: float) -> Tensor:
    """log mu(. | s), float64 [B, V]: temperature, then nucleus, renormalised; -inf outside.

    The nucleus is the smallest set of most likely tokens whose mass reaches `top_p`. Raises
    `EngineError` where the logits are not finite.
    """
    logprobs_bv = normalised_logprobs(logits_bv.double() / temperature)
    if top_p >= 1.0:
        return logprobs_bv
    sorted_bv, order_bv = logprobs_bv.sort(dim=-1, descending=True, stable=True)
    outside_bv = torch.zeros_like(order_bv, dtype=torch.bool).scatter(
        -1, order_bv, mass_before(sorted_bv) >= top_p
    )
    kept_bv = logprobs_bv.masked_fill(outside_bv, -torch.inf)
    return kept_bv - kept_bv.logsumexp(-1, keepdim=True)


def draw(logprobs_rv: Tensor, uniforms_a: Tensor, row_a: Tensor) -> Tensor:
    """For each draw, the token at which its row's cumulative mass exceeds its uniform number in [0,
    1); int64 [A]. row_a: int64, the row that each draw is from."""
    cumulative_av = cumulative_mass(logprobs_rv)[row_a]
    # Rounding may leave the total just below a uniform close to 1: scale by the total reached.
    targets_a1 = uniforms_a[:, None] * cumulative_av[:, -1:]
    return torch.searchsorted(cumulative_av, targets_a1, right=True).squeeze(-1)
