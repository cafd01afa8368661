"""All that is used of transformers beyond its documented API, each with what it rests on.

`tests/policy/test_transformers_internals.py` has a canary for each. pyproject.toml bounds
transformers to the minor version against which they were written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_FIRST_ROOM = 32


def attention_kernel(model: PreTrainedModel) -> str | None:
    """Which implementation of attention the model was loaded with: "sdpa", "eager" and others."""
    name: str | None = getattr(model.config, "_attn_implementation", None)
    return name


def own_mask(sees_gss: Tensor, dtype: torch.dtype) -> Tensor:
    """The attention mask [G, 1, S, S] that has each token see those that `sees_gss` says. Of four
    axes, it is what "sdpa" and "eager" add to their scores, and no mask of the model's own is
    made."""
    scores = sees_gss.new_zeros(sees_gss.shape, dtype=dtype)
    return scores.masked_fill(~sees_gss, scores.new_tensor(float("-inf")))[:, None]


class GrowingLayer(DynamicLayer):
    """A layer's keys and values, stored with spare room: T steps copy O(T) numbers, not O(T^2), and
    rearranging rows writes only the rows that another row replaces. `keys` and `values` are views
    of the part in use.

    max_rows: the number of rows to make room for at the start. max_length: the most tokens of a
    row. Rests on attention reading what `update` returns, on `keys` and `values` being all that the
    class's other methods look at, and on `lazy_initialization` setting no more than their kind.
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


def growing_cache(model: PreTrainedModel, max_rows: int, max_length: int) -> DynamicCache:
    """A cache of such layers, to be given as `past_key_values`. Rests on the list `layers` having
    one for each of the model's, made when the cache is."""
    cache = DynamicCache(config=model.config)
    # Layers of other kinds, such as sliding windows, are left as they are.
    cache.layers = [
        GrowingLayer(max_rows, max_length) if type(layer) is DynamicLayer else layer
        for layer in cache.layers
    ]
    return cache
