"""How much a token counts: what the objective imports is part of it."""

import torch
from torch import Tensor


def focus_bt(student_logprobs_btk: Tensor, expert_logprobs_btk: Tensor, gamma: float) -> Tensor:
    """(1 - overlap)^gamma, overlap = sum_k min(pi, T): near 0 where both agree already; [B, T],
    without gradient."""
    overlap_bt = torch.minimum(
        torch.exp(student_logprobs_btk.detach()), torch.exp(expert_logprobs_btk)
    ).sum(-1)
    return (1.0 - overlap_bt).clamp(min=0.0) ** gamma
