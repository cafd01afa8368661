"""HTTP answers from servers that need not be trusted: bounded in unpacked size and in total
time."""

import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpcore
import httpx

_PACKED = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


class Deadline:
    """The time by which everything that this thread waits for must arrive. httpx's own timeouts
    start anew with each byte, in the head of an answer as in its body."""

    def __init__(self) -> None:
        self._local = threading.local()

    @contextmanager
    def within(self, timeout_s: float) -> Iterator[None]:
        """Within the block, the rest of `timeout_s` bounds every wait of a bound client."""
        self._local.at = time.monotonic() + timeout_s
        try:
            yield
        finally:
            self._local.at = None

    def left_s(self) -> float | None:
        """Seconds left; None outside of any block. Raises `httpcore.ReadTimeout` where none is
        left."""
        at = getattr(self._local, "at", None)
        if at is None:
            return None
        left = float(at - time.monotonic())
        if left <= 0:
            raise httpcore.ReadTimeout("the answer had no end within timeout_s")
        return left

    def bind(self, client: httpx.Client) -> httpx.Client:
        """The client, whose connections keep this deadline from now on. httpx has no other way to
        set a network backend, which is public in httpcore, together with a proxy."""
        transports = [client._transport, *filter(None, client._mounts.values())]
        for transport in transports:
            pool: Any = transport._pool  # type: ignore[attr-defined]
            pool._network_backend = _Backend(pool._network_backend, self)
        return client


class _Backend(httpcore.NetworkBackend):
    def __init__(self, inner: httpcore.NetworkBackend, deadline: Deadline):
        self._inner = inner
        self._deadline = deadline

    def connect_tcp(self, *arguments: Any, **named: Any) -> httpcore.NetworkStream:
        return _Stream(self._inner.connect_tcp(*arguments, **named), self._deadline)

    def connect_unix_socket(self, *arguments: Any, **named: Any) -> httpcore.NetworkStream:
        return _Stream(self._inner.connect_unix_socket(*arguments, **named), self._deadline)

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, deadline: Deadline):
        self._inner = inner
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._shorter(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._shorter(timeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(self, *arguments: Any, **named: Any) -> httpcore.NetworkStream:
        return _Stream(self._inner.start_tls(*arguments, **named), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)

    def _shorter(self, timeout: float | None) -> float | None:
        left = self._deadline.left_s()
        return timeout if left is None else left if timeout is None else min(timeout, left)


def bounded_content(response: httpx.Response, max_bytes: int) -> bytes:
    """The whole answer, unpacked. Raises `httpx.DecodingError` where it is larger than `max_bytes`,
    truncated, or packed in a way whose unpacked size cannot be bounded."""
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in ("", "identity", *_PACKED):
        raise httpx.DecodingError(f"content encoding {encoding[:40]!r}, which was not asked for")
    unpacker = zlib.decompressobj(_PACKED[encoding]) if encoding in _PACKED else None
    content = bytearray()
    for piece in response.iter_raw():
        room = max_bytes - len(content) + 1
        try:
            content += unpacker.decompress(piece, room) if unpacker else piece
        except zlib.error as error:
            raise httpx.DecodingError(f"not {encoding}: {error}") from error
        if len(content) > max_bytes:
            raise httpx.DecodingError(f"more than {max_bytes} bytes (max_response_bytes)")
    if unpacker and not unpacker.eof:
        raise httpx.DecodingError(f"cut {encoding}")
    return bytes(content)
