"""What objectives read of the student: the one place of training that knows logits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from distil_core.policy.batching import (
    ResponseBatch,
    response_hidden,
    response_logits,
    vocabulary_size,
)
from distil_core.policy.packing import pack, packed_response_hidden, packed_response_logits
from distil_core.training.head_logprobs import head_logprobs
from distil_core.training.plain_head import softcap

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def student_logprobs(
    model: PreTrainedModel,
    tokens: ResponseBatch,
    expert_ids_btk: Tensor,
    forward_dtype: str = "float32",
    tiled_above: int | None = None,
    packing: bool = False,
) -> tuple[Tensor, Tensor]:
    """The student's log-mass on the expert's buckets, [B, T, K + 1], and the log-probability of
    each response token, [B, T]; in float32 at least, with gradient where it is enabled.

    expert_ids_btk: int64; the vocabulary's size marks padding. forward_dtype: in which the model
    computes. tiled_above: a vocabulary larger than this is read in tiles, and the logits never
    exist whole. packing: rows are computed one after another in few sequences, without padding.
    With either the values are the same but for rounding, and 0 where there is no response token.
    """
    tiled = is_tiled(model, tiled_above)
    if not tiled and not packing:
        with _computing_in(forward_dtype, model):
            logits_btv = response_logits(model, tokens)
        return logprobs_of_logits(logits_btv, tokens.response_ids_bt, expert_ids_btk)
    shape = tokens.response_ids_bt.shape
    response_ids_n = tokens.response_ids_bt.flatten()
    expert_ids_nk = expert_ids_btk.to(response_ids_n.device).flatten(0, 1)
    places, buckets, sampled = [], [], []
    for places_m, values_m in _predicting(model, tokens, forward_dtype, tiled, packing):
        read = _logprobs_of_hidden if tiled else _logprobs_of_logits
        buckets_mk, sampled_m = read(
            model, values_m, response_ids_n[places_m], expert_ids_nk[places_m]
        )
        places.append(places_m)
        buckets.append(buckets_mk)
        sampled.append(sampled_m)
    places_m = torch.cat(places)

    def in_place(parts: list[Tensor]) -> Tensor:
        values_m = torch.cat(parts)
        empty_n = values_m.new_zeros(len(response_ids_n), *values_m.shape[1:])
        return empty_n.index_copy(0, places_m, values_m).unflatten(0, shape)

    return in_place(buckets), in_place(sampled)


def is_tiled(model: PreTrainedModel, tiled_above: int | None) -> bool:
    """Whether the model's vocabulary is larger than that; never where it is None."""
    return tiled_above is not None and vocabulary_size(model) > tiled_above


def _predicting(
    model: PreTrainedModel, tokens: ResponseBatch, forward_dtype: str, tiled: bool, packing: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Where in [B * T] M response tokens stand, and what predicts them: hidden states [M, d] for a
    tiled head, else logits [M, V]; a part of all at a time."""
    if not packing:
        places_m = tokens.response_mask_bt.flatten().nonzero().squeeze(1)
        with _computing_in(forward_dtype, model):
            hidden_btd = response_hidden(model, tokens)
        hidden_md = hidden_btd.flatten(0, 1).index_select(0, places_m)
        yield places_m, _rounded(hidden_md, forward_dtype)
        return
    for packed in pack(tokens):
        with _computing_in(forward_dtype, model):
            if tiled:
                values_m = _rounded(packed_response_hidden(model, packed), forward_dtype)
            else:
                values_m = packed_response_logits(model, packed)
        yield packed.places_m, values_m


def _computing_in(forward_dtype: str, model: PreTrainedModel) -> torch.autocast:
    enabled = forward_dtype == "bfloat16"
    return torch.autocast(model.device.type, torch.bfloat16, enabled=enabled)


def _rounded(hidden_md: Tensor, forward_dtype: str) -> Tensor:
    """As the head would have read it under autocast."""
    return hidden_md.bfloat16() if forward_dtype == "bfloat16" else hidden_md


def _logprobs_of_hidden(
    model: PreTrainedModel, hidden_md: Tensor, response_ids_m: Tensor, expert_ids_mk: Tensor
) -> tuple[Tensor, Tensor]:
    head = model.get_output_embeddings()
    return head_logprobs(
        hidden_md,
        head.weight,
        expert_ids_mk,
        response_ids_m,
        bias_v=head.bias,
        softcap=softcap(model),
    )


def _logprobs_of_logits(
    _: PreTrainedModel, logits_mv: Tensor, response_ids_m: Tensor, expert_ids_mk: Tensor
) -> tuple[Tensor, Tensor]:
    return logprobs_of_logits(logits_mv, response_ids_m, expert_ids_mk)


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
