"""What objectives read of the student: the one place of training that knows logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from distil_core.policy.batching import ResponseBatch, response_logits
from distil_core.policy.packing import pack, packed_response_logits

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def student_logprobs(
    model: PreTrainedModel,
    tokens: ResponseBatch,
    expert_ids_btk: Tensor,
    forward_dtype: str = "float32",
    packing: bool = False,
) -> tuple[Tensor, Tensor]:
    """The student's log-mass on the expert's buckets, [B, T, K + 1], and the log-probability of
    each response token, [B, T]; in float32 at least, with gradient where it is enabled.

    expert_ids_btk: int64; the vocabulary's size marks padding. forward_dtype: in which the model
    computes. packing: rows are computed one after another in few sequences, without padding; the
    values are the same but for rounding, and 0 where there is no response token.
    """
    if packing:
        return _packed_student_logprobs(model, tokens, expert_ids_btk, forward_dtype)
    with torch.autocast(model.device.type, torch.bfloat16, enabled=forward_dtype == "bfloat16"):
        logits_btv = response_logits(model, tokens)
    return logprobs_of_logits(logits_btv, tokens.response_ids_bt, expert_ids_btk)


def _packed_student_logprobs(
    model: PreTrainedModel, tokens: ResponseBatch, expert_ids_btk: Tensor, forward_dtype: str
) -> tuple[Tensor, Tensor]:
    shape = tokens.response_ids_bt.shape
    response_ids_n = tokens.response_ids_bt.flatten()
    expert_ids_nk = expert_ids_btk.to(response_ids_n.device).flatten(0, 1)
    places, buckets, sampled = [], [], []
    for packed in pack(tokens):
        with torch.autocast(model.device.type, torch.bfloat16, enabled=forward_dtype == "bfloat16"):
            logits_mv = packed_response_logits(model, packed)
        buckets_mk, sampled_m = logprobs_of_logits(
            logits_mv, response_ids_n[packed.places_m], expert_ids_nk[packed.places_m]
        )
        places.append(packed.places_m)
        buckets.append(buckets_mk)
        sampled.append(sampled_m)
    places_m = torch.cat(places)

    def unpacked(values: list[Tensor]) -> Tensor:
        values_m = torch.cat(values)
        empty_n = values_m.new_zeros(len(response_ids_n), *values_m.shape[1:])
        return empty_n.index_copy(0, places_m, values_m).unflatten(0, shape)

    return unpacked(buckets), unpacked(sampled)


def logprobs_of_logits(
    logits_btv: Tensor, response_ids_bt: Tensor, expert_ids_btk: Tensor
) -> tuple[Tensor, Tensor]:
    """Like `student_logprobs`, from logits."""
    widened_btv = logits_btv.to(torch.promote_types(logits_btv.dtype, torch.float32))
    logprobs_btv = torch.log_softmax(widened_btv, dim=-1)
    sampled_bt = logprobs_btv.gather(-1, response_ids_bt[..., None]).squeeze(-1)
    return bucket_logprobs(logprobs_btv, expert_ids_btk.to(logprobs_btv.device)), sampled_bt


def bucket_logprobs(logprobs_btv: Tensor, expert_ids_btk: Tensor) -> Tensor:
    """The student's log-mass on each stored id and on the tail, [B, T, K + 1].

    expert_ids_btk: int64; the vocabulary's size marks padding. The tail is summed over its own
    tokens, so it is exact however small. Where it is empty, a finite value without gradient
    stands in its place (the expert's mass there is zero, so nothing is multiplied by it).
    """
    vocabulary_size = logprobs_btv.shape[-1]
    gathered_btk = logprobs_btv.gather(-1, expert_ids_btk.clamp(max=vocabulary_size - 1))
    batch_shape = logprobs_btv.shape[:-1]
    stored_btv = torch.zeros(
        (*batch_shape, vocabulary_size + 1), dtype=torch.bool, device=logprobs_btv.device
    ).scatter(-1, expert_ids_btk, torch.ones_like(expert_ids_btk, dtype=torch.bool))[..., :-1]
    empty_bt1 = stored_btv.all(-1, keepdim=True)
    # An all -inf row has no finite gradient: give it one token and replace the result below.
    masked_btv = logprobs_btv.masked_fill(stored_btv & ~empty_bt1, -torch.inf)
    tail_bt1 = masked_btv.logsumexp(-1, keepdim=True)
    floor = torch.finfo(logprobs_btv.dtype).min / 4
    return torch.cat([gathered_btk, tail_bt1.masked_fill(empty_bt1, floor)], dim=-1)
