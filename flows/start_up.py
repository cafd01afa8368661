"""How a process that runs for long starts: what it imports then is there for good."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def exempt_from_garbage_collection() -> Iterator[None]:
    """What is imported in the block is never looked at by the garbage collector.

    Libraries make a million objects. Looking at them again and again takes a tenth of the time
    of importing them, and half a second now and then for as long as the process runs.
    """
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()
