"""Next-token logits of many rows at once, for the transformers engine.

What `generate` spends on a small or batched model is saved here: a context that several rows share
is read once, keys and values are written in place instead of copied at each step, rows that ended
are taken out, and rows of equal length need no mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from distil_core.policy.batching import collate

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_FIRST_ROOM = 32


class GrowingLayer(DynamicLayer):
    """Keys and values in storage with room to grow: doubled when full, so that T steps copy O(T)
    numbers, not O(T^2). `keys` and `values` are views of what is written."""

    _storage: tuple[Tensor, Tensor] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append [B, heads, new, size]; all that is written so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if self._storage is None or self._storage[0].shape[-2] < end:
            room = max(_FIRST_ROOM, end)
            self._storage = (
                _with_room(key_states, self.keys, start, end + room),
                _with_room(value_states, self.values, start, end + room),
            )
        for stored, new in zip(self._storage, (key_states, value_states), strict=True):
            stored[..., start:end, :] = new
        self.keys, self.values = (stored[..., :end, :] for stored in self._storage)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Rows by number, once or more often each."""
        super().batch_select_indices(indices)
        self._storage = None


class Decoder:
    """Rows that begin with `contexts[owner]` for each of `owners`, and are continued token by
    token. Logits are [B, V] in the model's dtype."""

    def __init__(
        self, model: PreTrainedModel, contexts: Sequence[Sequence[int]], owners: Sequence[int]
    ):
        self._model = model
        self._cache = _growing_cache(model)
        batch = collate(contexts, [[]] * len(contexts), str(model.device))
        # One mask less to build and to add, where there is nothing to hide.
        self._padded = len(set(map(len, contexts))) > 1
        self._mask_bs = batch.attention_mask_bs
        self._position_b1 = batch.position_ids_bs[:, -1:]
        logits_uv = self._forward(batch.input_ids_bs, batch.position_ids_bs)
        owner_b = torch.tensor(owners, device=model.device)
        if list(owners) == list(range(len(contexts))):
            self.logits_bv = logits_uv
        else:
            self.keep(owner_b)
            self.logits_bv = logits_uv[owner_b]

    def keep(self, index_b: Tensor) -> None:
        """Go on with these rows only, in this order; a row may be named more than once."""
        self._cache.batch_select_indices(index_b)
        self._mask_bs = self._mask_bs[index_b]
        self._position_b1 = self._position_b1[index_b]

    def append(self, token_b: Tensor) -> None:
        """Continue each row by its token, and have the logits of the next one."""
        self._position_b1 = self._position_b1 + 1
        self._mask_bs = torch.nn.functional.pad(self._mask_bs, (0, 1), value=1)
        self.logits_bv = self._forward(token_b[:, None], self._position_b1)

    def _forward(self, input_ids: Tensor, position_ids: Tensor) -> Tensor:
        output = self._model(
            input_ids=input_ids,
            attention_mask=self._mask_bs if self._padded else None,
            position_ids=position_ids,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = output.logits[:, -1]
        return logits


def _growing_cache(model: PreTrainedModel) -> DynamicCache:
    cache = DynamicCache(config=model.config)
    # Layers of other kinds, such as sliding windows, keep their own way.
    cache.layers = [
        GrowingLayer() if type(layer) is DynamicLayer else layer  # type: ignore[no-untyped-call]
        for layer in cache.layers
    ]
    return cache


def _with_room(like: Tensor, written: Tensor | None, length: int, room: int) -> Tensor:
    storage = like.new_empty((*like.shape[:-2], room, like.shape[-1]))
    if written is not None and length:
        storage[..., :length, :] = written
    return storage
