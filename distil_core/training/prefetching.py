"""The next step's batch is computed while this step's backward pass runs."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, Self, TypeVar

Batch = TypeVar("Batch")


class Prefetcher(Generic[Batch]):
    """Batches of an iterator, computed in a second thread.

    Call `prefetch` when the main thread is about to wait for a backward pass: Python is free then,
    so it costs nothing. During a forward pass the two threads would slow each other down. A batch
    that was not prefetched is computed when `next_batch` asks for it. The iterator runs in that one
    thread only, so results do not depend on time.
    """

    def __init__(self, batches: Iterator[Batch]):
        self._batches = batches
        self._thread = ThreadPoolExecutor(1, "next-batch")
        self._next: Future[Batch] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def prefetch(self) -> None:
        """Start computing the next batch, unless that has started."""
        if self._next is None:
            self._next = self._thread.submit(self._compute_next)

    def next_batch(self) -> Batch:
        """The next batch. Raises what computing it raised, `IndexError` where there is none."""
        self.prefetch()
        assert self._next is not None
        future, self._next = self._next, None
        return future.result()

    def _compute_next(self) -> Batch:
        # A future cannot carry StopIteration.
        for batch in self._batches:
            return batch
        raise IndexError("no batch is left")
