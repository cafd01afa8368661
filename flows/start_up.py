"""How a long-running process starts: what it imports at the start stays for good."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def exempt_from_garbage_collection() -> Iterator[None]:
    """The garbage collector never examines what is imported in the block.

    Libraries create a million objects. Examining them takes a tenth of the time of importing them,
    and later half a second now and then for as long as the process runs.
    """
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()
