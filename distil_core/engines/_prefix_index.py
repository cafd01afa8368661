"""Sequences of token ids, found again by what others begin with."""

from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np

_ID_BYTES = 4


def key_of(token_ids: Sequence[int]) -> bytes:
    """The ids as bytes that sort as the ids do."""
    return np.asarray(token_ids, dtype=f">u{_ID_BYTES}").tobytes()


class PrefixIndex:
    """A set of sequences, each by its `key_of`. None is the beginning of another: it would never be
    the longest that a third begins with."""

    def __init__(self) -> None:
        self._keys: list[bytes] = []

    def add(self, key: bytes) -> bytes | None:
        """Add a sequence that `covers` does not know. Returns the one that it continues, if there
        is one: the new one has its place."""
        at = bisect_left(self._keys, key)
        # Whatever sorts between a sequence and one that continues it begins with it too.
        continued = self._keys[at - 1] if at and key.startswith(self._keys[at - 1]) else None
        if continued is None:
            insort(self._keys, key)
        else:
            self._keys[at - 1] = key
        return continued

    def remove(self, key: bytes) -> None:
        """Remove a sequence that is there."""
        del self._keys[bisect_left(self._keys, key)]

    def covers(self, key: bytes) -> bytes | None:
        """A sequence that begins with all of this one, or is it; None where there is none."""
        at = bisect_left(self._keys, key)
        found = self._keys[at] if at < len(self._keys) else b""
        return found if key and found.startswith(key) else None

    def longest(self, key: bytes) -> tuple[bytes, int]:
        """The sequence with the most tokens at its beginning in common with this one, and how many
        they are; 0 where there is none."""
        at = bisect_left(self._keys, key)
        # In their order, no other shares more than a neighbour.
        neighbours = self._keys[max(0, at - 1) : at + 1]
        return max(
            ((other, _num_shared(key, other)) for other in neighbours),
            key=lambda found: found[1],
            default=(b"", 0),
        )


def _num_shared(key: bytes, other: bytes) -> int:
    size = min(len(key), len(other))
    a, b = (np.frombuffer(one[:size], f">u{_ID_BYTES}") for one in (key, other))
    differing = (a != b).nonzero()[0]
    return int(differing[0]) if len(differing) else len(a)
