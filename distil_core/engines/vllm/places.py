"""Which server has a rollout's past: the one that sampled its last turn."""

from collections.abc import Sequence
from typing import Generic, TypeVar

from distil_core.engines._prefix_index import PrefixIndex, key_of

Server = TypeVar("Server")


class Places(Generic[Server]):
    """Servers by the tokens that they read or sampled last. Not safe for several threads."""

    def __init__(self) -> None:
        self._index = PrefixIndex()
        self._server_of: dict[bytes, Server] = {}

    def remember(self, token_ids: Sequence[int], server: Server) -> None:
        """This server knows all of these tokens; so does no server that was said to know a
        beginning of them only."""
        key = key_of(token_ids)
        if self._index.covers(key) is None:
            continued = self._index.add(key)
            self._server_of.pop(continued or b"", None)
            self._server_of[key] = server

    def find(self, token_ids: Sequence[int]) -> Server | None:
        """The server that knows a beginning of these tokens which it was remembered with; not one
        that only knows tokens which other sequences begin with too."""
        asked = key_of(token_ids)
        found, _ = self._index.longest(asked)
        return self._server_of[found] if found and asked.startswith(found) else None
