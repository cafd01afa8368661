"""Rows of a batch packed one after another into few sequences, without padding.

Positions restart at each row, and so transformers can tell the rows apart: given positions and no
mask, it makes the model's own mask (causal, sliding, for any attention kernel) within rows.
`distil_core/training/layout_check.py` finds models that do not.
"""

from collections.abc import Iterator, Sequence

import torch

from distil_core.policy.batching import ResponseBatch
from distil_core.policy.sequences import Sequences

LONGEST_ROWS_PER_SEQUENCE = 2
"""Attention scores grow with a sequence's length squared, so it holds no more than this many times
the longest row; a shorter one would be filled badly."""


def pack(batch: ResponseBatch) -> Iterator[Sequences]:
    """All rows of the batch, each within one sequence."""
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
        yield Sequences(
            input_ids_gs=batch.input_ids_bs[rows][present_rs][None],
            position_ids_gs=batch.position_ids_bs[rows][present_rs][None],
            sees_gss=None,
            predicting_n=predicting_bs[rows][present_rs].nonzero().squeeze(1),
            places_n=places_bt[rows][batch.response_mask_bt[rows]],
        )


def first_fit_decreasing(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Bins of indices of `lengths`, each with at most `capacity` in total: the longest first, each
    in the first bin with room. No length may exceed the capacity."""
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
