"""Keys and values of rows that the transformers engine has computed, for requests that continue
them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from distil_core.engines._prefix_index import PrefixIndex, key_of


@dataclass(frozen=True)
class Past:
    """What attention needs of a row's first tokens. layers: keys and values of each layer, [heads,
    tokens, size]."""

    layers: tuple[tuple[Tensor, Tensor], ...]

    @property
    def num_tokens(self) -> int:
        """Of the row."""
        return self.layers[0][0].shape[-2]

    @property
    def num_bytes(self) -> int:
        """tokens * 2 * layers * heads * size * bytes of a number, where all layers are alike."""
        return sum(one.nbytes for layer in self.layers for one in layer)

    def first(self, num_tokens: int) -> Past:
        """Of the first tokens alone: what comes later has no part in it. A view."""
        return Past(tuple((k[:, :num_tokens], v[:, :num_tokens]) for k, v in self.layers))

    def copy(self) -> Past:
        """In memory of its own, so that nothing else is held with it."""
        return Past(tuple((keys.clone(), values.clone()) for keys, values in self.layers))


class KeptPast:
    """The past of rows by their token ids, at most `max_bytes` of it. What was least recently added
    or found goes first."""

    def __init__(self, max_bytes: int):
        self._max_bytes = max_bytes
        self._index = PrefixIndex()
        self._past_of: OrderedDict[bytes, Past] = OrderedDict()
        self.num_bytes = 0

    def length(self, token_ids: Sequence[int]) -> int:
        """How many of these tokens `find` has the past of. The last is never among them, as it is
        what a row is continued from."""
        _, num_shared = self._index.longest(key_of(token_ids))
        return min(num_shared, len(token_ids) - 1)

    def find(self, token_ids: Sequence[int], num_tokens: int) -> Past | None:
        """The past of at most the first `num_tokens` of these; None where nothing is kept."""
        key, num_shared = self._index.longest(key_of(token_ids))
        num_found = min(num_shared, num_tokens, len(token_ids) - 1)
        if not num_found:
            return None
        self._past_of.move_to_end(key)
        return self._past_of[key].first(num_found)

    def add(self, token_ids: Sequence[int], past: Past) -> None:
        """Keep a copy of the past of these tokens, in place of that of a beginning of them."""
        key = key_of(token_ids)
        covering = self._index.covers(key)
        if covering is not None:
            self._past_of.move_to_end(covering)
            return
        if past.num_bytes > self._max_bytes:
            return
        continued = self._index.add(key)
        if continued is not None:
            self.num_bytes -= self._past_of.pop(continued).num_bytes
        # Room is made before the copy, so that the bound holds at any moment.
        while self.num_bytes + past.num_bytes > self._max_bytes:
            oldest, dropped = self._past_of.popitem(last=False)
            self._index.remove(oldest)
            self.num_bytes -= dropped.num_bytes
        self._past_of[key] = past.copy()
        self.num_bytes += past.num_bytes

    def close(self) -> None:
        """Drop everything, and keep nothing any more."""
        self._max_bytes = self.num_bytes = 0
        self._past_of.clear()
        self._index = PrefixIndex()
