"""Messages over a stream: the length in four bytes, then JSON."""

# Functions are imported, not modules, so that patching `os.write` breaks only the program itself.
from os import read, write
from typing import Any

from .values import dump, parse

HEADER_BYTES = 4
STDIN_FILE = "/box/.stdin"
"""What /dev/stdin is a link to, where there is no /proc that it could lead to."""


def write_frame(descriptor: int, tree: Any) -> None:
    """Write one message; blocks until the other side has taken all of it."""
    payload = dump(tree)
    view = memoryview(len(payload).to_bytes(HEADER_BYTES, "big") + payload)
    while view:
        view = view[write(descriptor, view) :]


def read_frame(descriptor: int) -> Any:
    """Read one message. Raises `EOFError` when the other side is gone."""
    length = int.from_bytes(_read_exactly(descriptor, HEADER_BYTES), "big")
    return parse(_read_exactly(descriptor, length))


def _read_exactly(descriptor: int, count: int) -> bytes:
    parts = []
    while count:
        part = read(descriptor, min(count, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
