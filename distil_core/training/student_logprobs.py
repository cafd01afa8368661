"""What objectives read of the student. Only this part of training handles logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from distil_core.config.models import Layout
from distil_core.policy.batching import (
    ResponseBatch,
    response_hidden,
    response_logits,
    vocabulary_size,
)
from distil_core.policy.known_tokens import head_parameters
from distil_core.policy.packing import pack
from distil_core.policy.prefix_tree import prefix_trees
from distil_core.policy.sequences import Sequences, predicted_hidden, predicted_logits
from distil_core.training.head_logprobs import head_logprobs
from distil_core.training.plain_head import softcap
from distil_core.training.policy_tokens import PolicyTokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def student_logprobs(
    model: PreTrainedModel,
    tokens: ResponseBatch,
    expert_ids_btk: Tensor,
    forward_dtype: str = "float32",
    tiled_above: int | None = None,
    sequences: Sequence[Sequences] | None = None,
    temperature: float | None = None,
    policys: PolicyTokens | None = None,
) -> tuple[Tensor, ...]:
    """The student's log-mass on the expert's buckets, [B, T, K + 1], and the log-probability of
    each response token, [B, T]; float32 or wider, with gradient where it is enabled. temperature:
    then the latter follows once more, of softmax(logits / temperature). policys: then the T
    response tokens are these.

    expert_ids_btk: int64; the vocabulary's size marks padding. forward_dtype: in which the model
    computes. tiled_above: a larger vocabulary is read in tiles, and the logits never exist all at
    once. sequences: the same rows from `as_sequences`, None for padded. None of these changes more
    than rounding. Where there is no response token, sequences give 0.
    """
    read = policys or tokens
    if is_tiled(model, tiled_above):
        with torch.autocast(model.device.type, torch.bfloat16, enabled=forward_dtype == "bfloat16"):
            hidden = _hidden(model, tokens, sequences, policys)
        return _tiled_logprobs(model, hidden, read, expert_ids_btk, forward_dtype, temperature)
    if sequences is not None:
        return _logprobs_in_sequences(
            model, read, expert_ids_btk, forward_dtype, sequences, temperature
        )
    with torch.autocast(model.device.type, torch.bfloat16, enabled=forward_dtype == "bfloat16"):
        logits_btv = response_logits(model, tokens)
    if policys is not None:
        logits_btv = policys.picked(logits_btv)
    return logprobs_of_logits(logits_btv, read.response_ids_bt, expert_ids_btk, temperature)


def as_sequences(
    tokens: ResponseBatch, layout: Layout, policys: PolicyTokens | None = None
) -> list[Sequences] | None:
    """The rows in the layout of `train.layout`, on the batch's device; None for padded. policys:
    the only response tokens that are predicted."""
    if layout == "padded":
        return None
    sequences = [prefix_trees(tokens)] if layout == "prefix_tree" else list(pack(tokens))
    if policys is None:
        return sequences
    return [policys.predicted(one, tokens.response_ids_bt.shape[1]) for one in sequences]


def is_tiled(model: PreTrainedModel, tiled_above: int | None) -> bool:
    """Whether the model's vocabulary is larger than `tiled_above`; False where that is None."""
    return tiled_above is not None and vocabulary_size(model) > tiled_above


def _hidden(
    model: PreTrainedModel,
    tokens: ResponseBatch,
    sequences: Sequence[Sequences] | None,
    policys: PolicyTokens | None,
) -> tuple[Tensor, Tensor]:
    """The places in [B * T] of N response tokens, and what the head reads to predict each of
    them, [N, d]."""
    if sequences is not None:
        places_n = torch.cat([part.places_n for part in sequences])
        return places_n, torch.cat([predicted_hidden(model, part) for part in sequences])
    places_n = (policys or tokens).response_mask_bt.flatten().nonzero().squeeze(1)
    hidden_btd = response_hidden(model, tokens)
    if policys is not None:
        hidden_btd = policys.picked(hidden_btd)
    return places_n, hidden_btd.flatten(0, 1).index_select(0, places_n)


def _tiled_logprobs(
    model: PreTrainedModel,
    hidden: tuple[Tensor, Tensor],
    tokens: ResponseBatch | PolicyTokens,
    expert_ids_btk: Tensor,
    forward_dtype: str,
    temperature: float | None,
) -> tuple[Tensor, ...]:
    half = forward_dtype == "bfloat16"
    places_n, hidden_nd = hidden
    (weight_vd, bias_v), cap = head_parameters(model), softcap(model)
    response_ids_n = tokens.response_ids_bt.flatten()[places_n]
    values: tuple[Tensor, ...] = head_logprobs(
        hidden_nd.bfloat16() if half else hidden_nd,
        weight_vd,
        expert_ids_btk.to(places_n.device).flatten(0, 1)[places_n],
        response_ids_n,
        bias_v=bias_v,
        softcap=cap,
    )
    if temperature is not None:
        # (c / T) tanh((h / T) W / (c / T)) is c tanh(h W / c) / T: the head of what is divided.
        divided_nd = hidden_nd / temperature
        _, as_sampled_n = head_logprobs(
            divided_nd.bfloat16() if half else divided_nd,
            weight_vd,
            torch.full_like(response_ids_n, len(weight_vd))[:, None],
            response_ids_n,
            bias_v=None if bias_v is None else bias_v / temperature,
            softcap=None if cap is None else cap / temperature,
        )
        values = (*values, as_sampled_n)
    return _in_place(values, places_n, tokens)


def _logprobs_in_sequences(
    model: PreTrainedModel,
    tokens: ResponseBatch | PolicyTokens,
    expert_ids_btk: Tensor,
    forward_dtype: str,
    sequences: Sequence[Sequences],
    temperature: float | None,
) -> tuple[Tensor, ...]:
    response_ids_n = tokens.response_ids_bt.flatten()
    expert_ids_nk = expert_ids_btk.to(response_ids_n.device).flatten(0, 1)
    places, values = [], []
    for part in sequences:
        with torch.autocast(model.device.type, torch.bfloat16, enabled=forward_dtype == "bfloat16"):
            logits_mv = predicted_logits(model, part)
        places.append(part.places_n)
        values.append(
            logprobs_of_logits(
                logits_mv,
                response_ids_n[part.places_n],
                expert_ids_nk[part.places_n],
                temperature,
            )
        )
    joined = tuple(torch.cat(pieces) for pieces in zip(*values, strict=True))
    return _in_place(joined, torch.cat(places), tokens)


def _in_place(
    values: tuple[Tensor, ...], places_n: Tensor, tokens: ResponseBatch | PolicyTokens
) -> tuple[Tensor, ...]:
    """Values of N response tokens at their places in [B, T]."""
    shape = tokens.response_ids_bt.shape

    def placed(values_n: Tensor) -> Tensor:
        empty = values_n.new_zeros(shape.numel(), *values_n.shape[1:])
        return empty.index_copy(0, places_n, values_n).unflatten(0, shape)

    return tuple(placed(values_n) for values_n in values)


def logprobs_of_logits(
    logits_btv: Tensor,
    response_ids_bt: Tensor,
    expert_ids_btk: Tensor,
    temperature: float | None = None,
) -> tuple[Tensor, ...]:
    """Like `student_logprobs`, from logits."""
    widened_btv = logits_btv.to(torch.promote_types(logits_btv.dtype, torch.float32))
    logprobs_btv = torch.log_softmax(widened_btv, dim=-1)
    sampled_bt = logprobs_btv.gather(-1, response_ids_bt[..., None]).squeeze(-1)
    buckets_btk = bucket_logprobs(logprobs_btv, expert_ids_btk.to(logprobs_btv.device))
    if temperature is None:
        return buckets_btk, sampled_bt
    tempered_btv = torch.log_softmax(widened_btv / temperature, dim=-1)
    as_sampled_bt = tempered_btv.gather(-1, response_ids_bt[..., None]).squeeze(-1)
    return buckets_btk, sampled_bt, as_sampled_bt


def bucket_logprobs(logprobs_btv: Tensor, expert_ids_btk: Tensor) -> Tensor:
    """The student's log-mass on each stored id and on the tail, [B, T, K + 1].

    expert_ids_btk: int64; the vocabulary's size marks padding. The tail is summed over its own
    tokens, so it is exact however small. An empty tail gets a finite value without gradient;
    nothing is multiplied by it, as the expert's mass there is zero.
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
