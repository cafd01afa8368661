"""Next-token logits of many rows at once, for the transformers engine.

It saves what `generate` spends on a small or batched model: requests with the same beginning share
one row, keys and values are written in place instead of copied at each step, rows that ended are
removed, and rows of equal length need no mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distil_core.policy._internals import growing_cache
from distil_core.policy.batching import collate

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Decoder:
    """Rows that start with a context each and are continued token by token. Logits are [R, V] in
    the model's dtype, at first one row for each context.

    max_rows: the most rows at any time. max_new_tokens: the most tokens that a row is continued by.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        contexts: Sequence[Sequence[int]],
        max_rows: int,
        max_new_tokens: int,
    ):
        self._model = model
        batch = collate(contexts, [[]] * len(contexts), str(model.device))
        length = batch.input_ids_bs.shape[1] + max_new_tokens
        self._cache = growing_cache(model, max_rows, length)
        # Without padding no mask is needed.
        self._padded = len(set(map(len, contexts))) > 1
        self._mask_rs = batch.attention_mask_bs
        self._position_r1 = batch.position_ids_bs[:, -1:]
        self.logits_rv = self._forward(batch.input_ids_bs, batch.position_ids_bs)

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
