"""Next-token logits of many rows at once, for the transformers engine.

It saves what `generate` spends on a small or batched model: requests with the same beginning share
one row, what is known of a row's beginning is not computed again, keys and values are written in
place instead of copied at each step, rows that ended are removed, and rows of equal length need no
mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distil_core.engines._kept_past import Past
from distil_core.policy._internals import begin_after, growing_cache, row_past
from distil_core.policy.batching import collate

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Decoder:
    """Rows that start with a context each and are continued token by token. Logits are [R, V] in
    the model's dtype, at first one row for each context.

    max_rows: the most rows at any time. max_new_tokens: the most tokens that a row is continued by.
    pasts: of each context's first tokens, but not of all of them, where it is known.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        contexts: Sequence[Sequence[int]],
        max_rows: int,
        max_new_tokens: int,
        pasts: Sequence[Past | None] = (),
    ):
        self._model = model
        starts = [past.num_tokens if past else 0 for past in pasts] or [0] * len(contexts)
        new = [context[start:] for context, start in zip(contexts, starts, strict=True)]
        batch = collate(new, [[]] * len(new), str(model.device))
        length = max(map(len, contexts))
        self._cache = growing_cache(model, max_rows, length + max_new_tokens)
        if any(starts):
            layers_b = [None if past is None else past.layers for past in pasts]
            begin_after(self._cache, layers_b, length, batch.attention_mask_bs.bool())
        # Without padding no mask is needed.
        self._padded = len(set(map(len, contexts))) > 1
        self._mask_rs, position_ids_rs = _right_aligned(contexts, model.device)
        self._position_r1 = position_ids_rs[:, -1:]
        num_new = batch.input_ids_bs.shape[1]
        self.logits_rv = self._forward(batch.input_ids_bs, position_ids_rs[:, -num_new:])

    def past(self, row: int, num_tokens: int) -> Past:
        """Of the last `num_tokens` tokens of a row, all that it has; a view."""
        return Past(row_past(self._cache, row, num_tokens))

    def step(self, source_r: NDArray[np.int64], token_r: NDArray[np.int64]) -> None:
        """Continue the rows. Each new row is old row `source_r` followed by `token_r`; an old row
        may be named several times or not at all. `logits_rv` are then those of the next tokens."""
        index_r, token_r1 = (
            torch.from_numpy(array).to(self._model.device) for array in (source_r, token_r[:, None])
        )
        if not np.array_equal(source_r, np.arange(len(self._position_r1))):
            self._cache.batch_select_indices(index_r)
            self._mask_rs = self._mask_rs[index_r]
            self._position_r1 = self._position_r1[index_r]
        self._position_r1 = self._position_r1 + 1
        self._mask_rs = torch.nn.functional.pad(self._mask_rs, (0, 1), value=1)
        self.logits_rv = self._forward(token_r1, self._position_r1)

    def _forward(self, input_ids: Tensor, position_ids: Tensor) -> Tensor:
        output = self._model(
            input_ids=input_ids,
            attention_mask=self._mask_rs if self._padded else None,
            position_ids=position_ids,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = output.logits[:, -1]
        return logits


def _right_aligned(
    contexts: Sequence[Sequence[int]], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Mask and positions of contexts that end in the same column, int64 [B, S] each."""
    lengths_b = torch.tensor([len(context) for context in contexts], device=device)
    longest = int(lengths_b.max())
    positions_bs = torch.arange(-longest, 0, device=device) + lengths_b[:, None]
    return (positions_bs >= 0).long(), positions_bs.clamp(min=0)
