"""The next step's batch, made while this step computes."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, Self, TypeVar

Batch = TypeVar("Batch")


class MadeAhead(Generic[Batch]):
    """Batches of an iterator, each made by a thread of its own.

    `start` says when: beside a backward pass, for which Python only waits, it costs nothing, while
    beside a forward pass two threads would wait for each other. Without `start` a batch is made
    when it is taken. The iterator runs in the one thread only, so results do not depend on time.
    """

    def __init__(self, batches: Iterator[Batch]):
        self._batches = batches
        self._thread = ThreadPoolExecutor(1, "next-batch")
        self._next: Future[Batch] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def start(self) -> None:
        """Begin to make the next batch, unless it is begun."""
        if self._next is None:
            self._next = self._thread.submit(self._make)

    def take(self) -> Batch:
        """The next batch. Raises what making it raised, `IndexError` where there is none."""
        self.start()
        assert self._next is not None
        future, self._next = self._next, None
        return future.result()

    def _make(self) -> Batch:
        # A future cannot carry StopIteration.
        for batch in self._batches:
            return batch
        raise IndexError("no batch is left")
