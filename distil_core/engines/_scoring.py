"""How an engine scores: the model's logits at response positions, and the most likely ids there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distil_core.config.models import OnePassLayout
from distil_core.engines._sampling import mass_before, normalised_logprobs
from distil_core.engines.base import ScoredResponse, ScoreRequest
from distil_core.errors import EngineRefusedError
from distil_core.policy.batching import collate, response_logits
from distil_core.policy.prefix_tree import prefix_trees, unsupported_reason
from distil_core.policy.sequences import predicted_logits

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LOGITS_AT_ONCE = 2**25
_CHECKED = 16
"""Rows that are scored both ways before trees are trusted."""
_TREE_LIMITS = {torch.float64: 1e-6, torch.float32: 1e-4, torch.bfloat16: 0.1}


def scoring_order(requests: Sequence[ScoreRequest], layout: OnePassLayout) -> list[int]:
    """Indices of the requests, ordered so that rows of similar length, or with a common beginning,
    are adjacent."""
    if layout == "prefix_tree":
        keys: list[Any] = [(*request.context_ids, *request.response_ids) for request in requests]
    else:
        keys = [len(request.context_ids) + len(request.response_ids) for request in requests]
    return sorted(range(len(keys)), key=lambda index: (keys[index], index))


def requested_logits(
    model: PreTrainedModel, requests: Sequence[ScoreRequest], layout: OnePassLayout
) -> Tensor:
    """Logits at all response positions, one request after another, [N, V] in the model's dtype."""
    batch = collate(
        [request.context_ids for request in requests],
        [request.response_ids for request in requests],
        str(model.device),
    )
    if layout == "padded":
        return response_logits(model, batch)[batch.response_mask_bt]
    trees = prefix_trees(batch)
    return predicted_logits(model, trees)[trees.places_n.argsort()]


def require_trees(model: PreTrainedModel, requests: Sequence[ScoreRequest], longest: int) -> None:
    """Raise `EngineError` where the model computes something else in prefix trees. The first few
    requests are scored both ways to find out, so the requests should be in `scoring_order`.
    longest: tokens of the longest request."""
    name = f"layout prefix_tree is not for {type(model).__name__}"
    if reason := unsupported_reason(model, longest):
        raise EngineRefusedError(f"{name}: {reason}; set layout: padded")
    few = requests[:_CHECKED]
    layouts: tuple[OnePassLayout, OnePassLayout] = ("padded", "prefix_tree")
    padded_nv, trees_nv = (
        normalised_logprobs(requested_logits(model, few, one)).exp() for one in layouts
    )
    difference = float((padded_nv - trees_nv).abs().max())
    limit = _TREE_LIMITS[model.dtype]
    # Written this way so that NaN is refused too.
    if not difference <= limit:
        raise EngineRefusedError(
            f"{name}: a probability differs by {difference:.3g} from that of its row alone "
            f"(rounding is below {limit}); set layout: padded"
        )


def top_distributions(
    logits_nv: Tensor, lengths: Sequence[int], top_k: int, top_p: float
) -> Iterator[ScoredResponse]:
    """The distributions of responses whose positions follow one another in `logits_nv`."""
    # In parts, as a whole batch's logits in double precision may not fit in memory.
    num_positions = max(1, _LOGITS_AT_ONCE // logits_nv.shape[-1])
    parts = [_top_positions(part, top_k, top_p) for part in logits_nv.split(num_positions)]
    counts_n, token_ids, logprobs, tail_logprobs_n = map(np.concatenate, zip(*parts, strict=True))
    position, stored = 0, 0
    for length in lengths:
        positions = slice(position, position + length)
        kept = slice(stored, stored + int(counts_n[positions].sum()))
        yield ScoredResponse(
            counts_n[positions], token_ids[kept], logprobs[kept], tail_logprobs_n[positions]
        )
        position, stored = positions.stop, kept.stop


def _top_positions(logits_nv: Tensor, top_k: int, top_p: float) -> tuple[NDArray[Any], ...]:
    """The fewest ids that hold `top_p`, at most `top_k`, and the log of the remaining mass."""
    logprobs_nv = normalised_logprobs(logits_nv)
    top_nk, ids_nk = logprobs_nv.topk(min(top_k, logprobs_nv.shape[-1]), dim=-1)
    kept_nk = mass_before(top_nk) < top_p
    if top_p >= 1.0:
        kept_nk = torch.ones_like(kept_nk)
    # Summed over the tail's tokens: as 1 - kept, a tail of 1e-9 would be lost to rounding.
    outside_nv = torch.ones_like(logprobs_nv, dtype=torch.bool).scatter(-1, ids_nk, ~kept_nk)
    tail_n = logprobs_nv.masked_fill(~outside_nv, -torch.inf).logsumexp(-1)
    tensors = (kept_nk.sum(-1).int(), ids_nk[kept_nk].int(), top_nk[kept_nk].float())
    return tuple(tensor.cpu().numpy() for tensor in (*tensors, tail_n.float()))
