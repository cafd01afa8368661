"""Next-token logits of many rows at once, for the transformers engine.

It saves what `generate` spends on a small or batched model: requests with the same beginning share
one row, keys and values are written in place instead of copied at each step, rows that ended are
removed, and rows of equal length need no mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from distil_core.policy.batching import collate

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_FIRST_ROOM = 32


class GrowingLayer(DynamicLayer):
    """A layer's keys and values, stored with spare room: T steps copy O(T) numbers, not O(T^2), and
    rearranging rows writes only the rows that another row replaces. `keys` and `values` are views
    of the part in use.

    max_rows: the number of rows to make room for at the start. max_length: the most tokens of a
    row.
    """

    def __init__(self, max_rows: int, max_length: int):
        super().__init__()  # type: ignore[no-untyped-call]
        self._max_rows, self._max_length = max_rows, max_length
        self._storage: tuple[Tensor, Tensor] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append states of [B, heads, new, size]; returns all that are stored."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if self._storage is None or self._storage[0].shape[-2] < end:
            room = max(end, min(end + max(_FIRST_ROOM, end), self._max_length))
            self._storage = (
                self._with_room(key_states, self.keys, start, room),
                self._with_room(value_states, self.values, start, room),
            )
        num_rows = len(key_states)
        for stored, new in zip(self._storage, (key_states, value_states), strict=True):
            stored[:num_rows, :, start:end] = new
        self.keys, self.values = (stored[:num_rows, :, :end] for stored in self._storage)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the rows with these indices, which may repeat; at most `max_rows`."""
        assert self._storage is not None
        num_rows, length = len(indices), self.get_seq_length()
        moved_m = (indices != torch.arange(num_rows, device=indices.device)).nonzero()[:, 0]
        for stored in self._storage:
            written = stored[:, :, :length]
            written[moved_m] = written[indices[moved_m]]
        self.keys, self.values = (stored[:num_rows, :, :length] for stored in self._storage)

    def _with_room(self, like: Tensor, written: Tensor | None, length: int, room: int) -> Tensor:
        storage = like.new_empty((self._max_rows, like.shape[1], room, like.shape[3]))
        if written is not None and length:
            storage[: len(written), :, :length] = written
        return storage


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
        self._cache = _growing_cache(model, max_rows, length)
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


def _growing_cache(model: PreTrainedModel, max_rows: int, max_length: int) -> DynamicCache:
    cache = DynamicCache(config=model.config)
    # Layers of other kinds, such as sliding windows, are left as they are.
    cache.layers = [
        GrowingLayer(max_rows, max_length) if type(layer) is DynamicLayer else layer
        for layer in cache.layers
    ]
    return cache
