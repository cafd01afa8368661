"""Drawing one token a row by inverse transform, from numbers that belong to the row."""

import torch
from torch import Tensor


def sampling_logprobs(logits_bv: Tensor, temperature: float, top_p: float) -> Tensor:
    """log mu(. | s), float64 [B, V]: temperature, then nucleus, renormalised; -inf outside.

    The nucleus is the fewest most likely tokens whose mass reaches `top_p`.
    """
    logprobs_bv = torch.log_softmax(logits_bv.double() / temperature, dim=-1)
    if top_p >= 1.0:
        return logprobs_bv
    sorted_bv, order_bv = logprobs_bv.sort(dim=-1, descending=True, stable=True)
    mass_before_bv = sorted_bv.exp().cumsum(-1) - sorted_bv.exp()
    outside_bv = torch.zeros_like(order_bv, dtype=torch.bool).scatter(
        -1, order_bv, mass_before_bv >= top_p
    )
    kept_bv = logprobs_bv.masked_fill(outside_bv, -torch.inf)
    return kept_bv - kept_bv.logsumexp(-1, keepdim=True)


def draw(logprobs_bv: Tensor, uniforms_b: Tensor) -> Tensor:
    """The token at which the cumulative mass passes the row's uniform in [0, 1); int64 [B]."""
    cumulative_bv = logprobs_bv.exp().cumsum(-1)
    # Rounding may leave the total just below a uniform close to 1: scale by the total reached.
    targets_b1 = uniforms_b[:, None] * cumulative_bv[:, -1:]
    return torch.searchsorted(cumulative_bv, targets_b1, right=True).squeeze(-1)
