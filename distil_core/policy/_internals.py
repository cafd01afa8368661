"""All that is used of transformers beyond its documented API, each with what it rests on.

`tests/policy/test_transformers_internals.py` has a canary for each. pyproject.toml bounds
transformers to the minor version against which they were written.
"""

from __future__ import annotations

from collections.abc import Sequence
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
        self._own_bn: Tensor | None = None

    def begin_after(
        self, past_b: Sequence[tuple[Tensor, Tensor] | None], length: int, own_bn: Tensor
    ) -> None:
        """Let rows begin with a past, before anything was appended.

        past_b: keys and values of each row, [heads, tokens, size]; None for a row without, but not
        for all. own_bn: bool [B, new], which of the tokens that are appended first are each row's
        own, at its right end; the row's past lies in the places before these. length: what all rows
        have room for then, `new` included.
        """
        known = next(past for past in past_b if past is not None)
        self.lazy_initialization(*known)
        # Not left as it is found, since attention multiplies what it does not see by 0.
        keys, values = (
            one.new_zeros((self._max_rows, one.shape[0], self._room(length), one.shape[2]))
            for one in known
        )
        ends = (length - own_bn.sum(1)).tolist()
        for row, (past, end) in enumerate(zip(past_b, ends, strict=True)):
            if past is not None:
                start = end - past[0].shape[1]
                keys[row, :, start:end], values[row, :, start:end] = past
        start = length - own_bn.shape[1]
        self._storage, self._own_bn = (keys, values), own_bn
        self.keys, self.values = (stored[: len(own_bn), :, :start] for stored in self._storage)

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append states of [B, heads, new, size]; returns all that are stored."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if self._storage is None or self._storage[0].shape[-2] < end:
            room = self._room(end)
            self._storage = (
                self._with_room(key_states, self.keys, start, room),
                self._with_room(value_states, self.values, start, room),
            )
        num_rows = len(key_states)
        own_bn, self._own_bn = self._own_bn, None
        for stored, new in zip(self._storage, (key_states, value_states), strict=True):
            written = stored[:num_rows, :, start:end]
            written[:] = new if own_bn is None else new.where(own_bn[:, None, :, None], written)
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

    def past(self, row: int, num_tokens: int) -> tuple[Tensor, Tensor]:
        """Keys and values of the last `num_tokens` tokens of a row, views of [heads, tokens,
        size]."""
        assert self._storage is not None
        end = self.get_seq_length()
        keys, values = (stored[row, :, end - num_tokens : end] for stored in self._storage)
        return keys, values

    def _room(self, length: int) -> int:
        return max(length, min(length + max(_FIRST_ROOM, length), self._max_length))

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


def begin_after(
    cache: DynamicCache,
    past_b: Sequence[Sequence[tuple[Tensor, Tensor]] | None],
    length: int,
    own_bn: Tensor,
) -> None:
    """`GrowingLayer.begin_after` of all layers of a new cache, for a model that
    `can_begin_after_past`. past_b: of each row the keys and values of each layer."""
    for number, layer in enumerate(cache.layers):
        assert isinstance(layer, GrowingLayer)
        layer_b = [None if past is None else past[number] for past in past_b]
        layer.begin_after(layer_b, length, own_bn)


def row_past(cache: DynamicCache, row: int, num_tokens: int) -> tuple[tuple[Tensor, Tensor], ...]:
    """Keys and values, in each layer, of the last `num_tokens` tokens of a row; views of [heads,
    tokens, size]."""
    found = []
    for layer in cache.layers:
        assert isinstance(layer, GrowingLayer)
        found.append(layer.past(row, num_tokens))
    return tuple(found)


def can_begin_after_past(model: PreTrainedModel) -> bool:
    """Whether the first part of a row's keys and values is what the row's first tokens alone would
    have, wherever in a cache they lie. It is not where layers keep a window, a state or an index,
    nor where a token's rotation depends on the length of what is read with it.

    Rests on `layers` having these kinds, and on rope_parameters naming the rotations, for all
    layers or for each kind.
    """
    config = model.config.get_text_config(decoder=True)
    rotations = getattr(config, "rope_parameters", None) or {}
    of_kinds = [kind for kind in rotations.values() if isinstance(kind, dict)]
    names = [str(one.get("rope_type", "")) for one in (rotations, *of_kinds)]
    if any("dynamic" in name or name == "longrope" for name in names):
        return False
    kinds = {type(layer) for layer in DynamicCache(config=model.config).layers}
    return kinds == {DynamicLayer}
