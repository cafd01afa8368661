"""How long-running work reports its progress: a callback, so that only front doors draw
anything."""

from collections.abc import Callable

ProgressCallback = Callable[[int, int], None]
"""Called with (done, total) from the working thread; must be cheap and must not raise."""


def no_progress(done: int, total: int) -> None:
    """The callback of a caller that does not watch."""
