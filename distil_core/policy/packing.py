"""Rows of a batch one after another in few sequences, without padding.

Positions restart at each row. That is how transformers knows rows apart: where it gets positions
and no mask, it makes the model's own mask (causal, sliding, for any attention kernel) within rows.
A model that does not is found by `distil_core/training/packing_check.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from distil_core.policy.batching import ResponseBatch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LONGEST_ROWS_PER_SEQUENCE = 2
"""Attention scores grow with a sequence's length squared, so it holds no more than this many times
the longest row; a shorter one would be filled badly."""


@dataclass(frozen=True)
class PackedSequence:
    """Some rows of a batch in S tokens, which hold M response tokens.

    input_ids_1s, position_ids_1s: int64 [1, S]. predicting_m: where in S the token before each
    response token stands. places_m: where in the batch's [B * T] that response token stands.
    """

    input_ids_1s: Tensor
    position_ids_1s: Tensor
    predicting_m: Tensor
    places_m: Tensor


def pack(batch: ResponseBatch) -> Iterator[PackedSequence]:
    """All rows of the batch, each in one sequence."""
    present_bs = batch.attention_mask_bs.bool()
    lengths = present_bs.sum(1).tolist()
    response_length = batch.response_ids_bt.shape[1]
    predicting_bs = torch.zeros_like(present_bs)
    predicting_bs[:, -response_length - 1 : -1] = batch.response_mask_bt
    places_bt = torch.arange(batch.response_ids_bt.numel(), device=present_bs.device).view_as(
        batch.response_ids_bt
    )
    for rows in first_fit_decreasing(lengths, LONGEST_ROWS_PER_SEQUENCE * max(lengths)):
        present_rs = present_bs[rows]
        yield PackedSequence(
            input_ids_1s=batch.input_ids_bs[rows][present_rs][None],
            position_ids_1s=batch.position_ids_bs[rows][present_rs][None],
            predicting_m=predicting_bs[rows][present_rs].nonzero().squeeze(1),
            places_m=places_bt[rows][batch.response_mask_bt[rows]],
        )


def packed_response_logits(model: PreTrainedModel, packed: PackedSequence) -> Tensor:
    """Logits that predict each response token, [M, V] in the model's dtype."""
    output = model(
        input_ids=packed.input_ids_1s,
        position_ids=packed.position_ids_1s,
        logits_to_keep=packed.predicting_m,
        use_cache=False,
    )
    logits_mv: Tensor = output.logits.squeeze(0)
    return logits_mv


def packed_response_hidden(model: PreTrainedModel, packed: PackedSequence) -> Tensor:
    """What the head reads where each response token is predicted, [M, d]."""
    output = model.get_decoder()(
        input_ids=packed.input_ids_1s, position_ids=packed.position_ids_1s, use_cache=False
    )
    hidden_md: Tensor = output.last_hidden_state[0, packed.predicting_m]
    return hidden_md


def first_fit_decreasing(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Indices of `lengths` in bins that hold at most `capacity` together: the longest first, each
    into the first bin with room. None may exceed the capacity."""
    bins: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        chosen = next((b for b, free in enumerate(room) if free >= lengths[index]), len(bins))
        if chosen == len(bins):
            bins.append([])
            room.append(capacity)
        bins[chosen].append(index)
        room[chosen] -= lengths[index]
    return bins
