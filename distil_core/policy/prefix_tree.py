"""Rows of a batch as trees, in which tokens that several rows begin with are computed once.

Rollouts of one problem share their context, and often the first tokens of their responses; the
contexts that an expert reads share the problem. Under causal attention a token's state depends only
on the tokens before it, so it is the same in all rows with that beginning. A row's last token is
left out, as nothing reads its prediction.

Trees lie side by side in few sequences, and a mask lets each token see only its own path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from distil_core.policy.batching import ResponseBatch
from distil_core.policy.packing import first_fit_decreasing
from distil_core.policy.sequences import Sequences

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LONGEST_ROWS_PER_TREE = 3
"""Attention is computed between all tokens of a sequence and then masked, so a tree grows no larger
than this many times the longest row; rows beyond begin another, which repeats what they share."""

_SHORT = 48
"""Tokens among which attention costs little beside the rest of a model, however small."""


def unsupported_reason(model: PreTrainedModel, longest_row: int) -> str | None:
    """Why the model cannot compute trees with rows of this many tokens; None where it can."""
    # It imports transformers, which a model has brought already.
    from distil_core.policy._internals import attention_kernel

    kernel = attention_kernel(model)
    if kernel not in ("sdpa", "eager"):
        return f"its attention is {kernel}, and only sdpa and eager take a mask of their own"
    window = getattr(model.config.get_text_config(), "sliding_window", None)
    if window is not None and longest_row > window:
        return f"the longest row has {longest_row} tokens, and it attends to the last {window} only"
    return None


def prefix_trees(batch: ResponseBatch) -> Sequences:
    """All rows of the batch as trees; each row must have a response."""
    rows_bl, contexts_b, order_b = _in_order_of_tokens(batch)
    lengths_b = (rows_bl >= 0).sum(1)
    shared_b = _shared_with_row_before(rows_bl)
    tree_b = _trees(lengths_b, shared_b)
    new_bl = (rows_bl >= 0) & (np.arange(rows_bl.shape[1]) >= shared_b[:, None])
    paths_bl, sizes = _paths(new_bl, tree_b)
    length, sequence_of, start_of = _placed(sizes, int(lengths_b.max()))
    sequence_b, paths_bl = sequence_of[tree_b], paths_bl + start_of[tree_b][:, None]

    shape = (int(sequence_of.max()) + 1, length)
    input_ids_gs, position_ids_gs = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    sees_gss = np.zeros((*shape, length), np.bool_)
    # Padding attends to itself: attention to nothing would be NaN.
    sees_gss[:, np.arange(length), np.arange(length)] = True
    for position in range(rows_bl.shape[1]):
        rows = new_bl[:, position].nonzero()[0]
        sequence, place = sequence_b[rows], paths_bl[rows, position]
        input_ids_gs[sequence, place] = rows_bl[rows, position]
        position_ids_gs[sequence, place] = position
        if position:
            # A token sees what the token before it sees, and itself.
            sees_gss[sequence, place] = sees_gss[sequence, paths_bl[rows, position - 1]]
            sees_gss[sequence, place, place] = True

    position_n, row_n = _predictions(contexts_b, lengths_b)
    width = batch.response_ids_bt.shape[1]
    arrays = (
        input_ids_gs,
        position_ids_gs,
        sees_gss,
        sequence_b[row_n] * length + paths_bl[row_n, position_n],
        order_b[row_n] * width + position_n + 1 - contexts_b[row_n],
    )
    return Sequences(*(torch.from_numpy(a).to(batch.input_ids_bs.device) for a in arrays))


def _in_order_of_tokens(
    batch: ResponseBatch,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Sorted rows: each row's tokens without the last, padded with -1 on the right; the length of
    its context; and its index in the batch."""
    present_bs = batch.attention_mask_bs.cpu().numpy().astype(np.bool_)
    ids_bs = batch.input_ids_bs.cpu().numpy()
    counts_b = present_bs.sum(1)
    contexts_b = counts_b - batch.response_mask_bt.cpu().numpy().sum(1)
    left_bs = np.arange(counts_b.max()) < counts_b[:, None]
    rows_bl = np.full(left_bs.shape, -1, np.int64)
    rows_bl[left_bs] = ids_bs[present_bs]
    rows_bl[np.arange(len(rows_bl)), counts_b - 1] = -1
    rows_bl = rows_bl[:, :-1]
    order_b = np.lexsort(rows_bl.T[::-1])
    return rows_bl[order_b], contexts_b[order_b], order_b


def _shared_with_row_before(rows_bl: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many leading tokens each row shares with the row before it; 0 for the first."""
    equal_bl = (rows_bl[1:] == rows_bl[:-1]) & (rows_bl[1:] >= 0)
    return np.concatenate([[0], np.logical_and.accumulate(equal_bl, axis=1).sum(1)])


def _trees(lengths_b: NDArray[np.int64], shared_b: NDArray[np.int64]) -> NDArray[np.int64]:
    """The index of each row's tree. A row joins the tree of the row before it where they share a
    quarter of the shorter one, as less does not pay; where it starts a tree, its entry of
    `shared_b` is set to 0."""
    largest = LONGEST_ROWS_PER_TREE * int(lengths_b.max())
    tree_b = np.zeros_like(lengths_b)
    size = int(lengths_b[0])
    for b in range(1, len(lengths_b)):
        shared, length = int(shared_b[b]), int(lengths_b[b])
        grown = size + length - shared
        joins = 4 * shared >= min(length, int(lengths_b[b - 1])) and grown <= largest
        size = grown if joins else length
        tree_b[b] = tree_b[b - 1] + (not joins)
        if not joins:
            shared_b[b] = 0
    return tree_b


def _paths(
    new_bl: NDArray[np.bool_], tree_b: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each row's tokens are within their tree, [B, L], and the number of tokens of each tree.
    new_bl: the tokens not shared with the row before, numbered in this order."""
    sizes = np.bincount(tree_b, new_bl.sum(1)).astype(np.int64)
    before_tree = np.cumsum(sizes) - sizes
    met_bl = (np.cumsum(new_bl) - 1).reshape(new_bl.shape) - before_tree[tree_b][:, None]
    # A shared token was new in an earlier row, on the path that this row shares.
    row_bl = np.maximum.accumulate(np.where(new_bl, np.arange(len(new_bl))[:, None], 0), axis=0)
    return np.take_along_axis(met_bl, row_bl, axis=0), sizes


def _placed(
    sizes: NDArray[np.int64], longest_row: int
) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
    """Trees packed into sequences: the sequences' length, and each tree's sequence and start."""
    bins = first_fit_decreasing(sizes.tolist(), max(_SHORT, 2 * longest_row, int(sizes.max())))
    sequence_of, start_of = np.zeros_like(sizes), np.zeros_like(sizes)
    for sequence, trees in enumerate(bins):
        sequence_of[trees] = sequence
        start_of[trees] = np.cumsum(sizes[trees]) - sizes[trees]
    return int((start_of + sizes).max()), sequence_of, start_of


def _predictions(
    contexts_b: NDArray[np.int64], lengths_b: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each response token, in order: the position in its row of the token that predicts it, and
    the row."""
    responses_b = lengths_b - contexts_b + 1
    row_n = np.repeat(np.arange(len(lengths_b)), responses_b)
    first_n = np.repeat(np.cumsum(responses_b) - responses_b, responses_b)
    return np.arange(len(row_n)) - first_n + contexts_b[row_n] - 1, row_n
