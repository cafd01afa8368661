"""Worker processes from the parent's side: start, feed, watch, replace."""

import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import wait
from typing import Any, ClassVar, Generic, TypeVar

from distil_core.worker_pool.serving import WorkerFailure

JobT = TypeVar("JobT")
OutcomeT = TypeVar("OutcomeT")

START_LIMIT_S = 180.0
_CLOSE_LIMIT_S = 10.0
_PROGRAM = "from {module} import main; main({connection}, {lifeline})"


class Worker(Generic[JobT]):
    """One process in its own session. `jobs`: those it was sent and has not answered."""

    def __init__(self, module: str, settings: object):
        self.connection, child = Pipe()
        lifeline, self._lifeline = os.pipe()
        program = _PROGRAM.format(module=module, connection=child.fileno(), lifeline=lifeline)
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(child.fileno(), lifeline),
                start_new_session=True,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)},
            )
        finally:
            child.close()
            os.close(lifeline)
        self.is_ready = False
        self.is_retrying = False
        self.jobs: deque[JobT] = deque()
        self._send(settings)

    def send(self, jobs: Sequence[JobT], is_retrying: bool) -> None:
        """Send it jobs."""
        self.jobs.extend(jobs)
        self.is_retrying = is_retrying
        self._send(list(jobs))

    def overdue_s(self, limit_s: float) -> float:
        """By how many seconds the current job exceeds the limit."""
        return time.monotonic() - self.since - limit_s

    def request_stop(self) -> None:
        """Ask it to close what it works with and end."""
        self._send(None)

    def kill(self) -> int:
        """End it and everything it started, at once. Returns its exit status in the form of
        `subprocess`."""
        if self.connection.closed:
            return self.process.wait()
        # The process that watches the lifeline is in the group, so its id is not reused yet.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.connection.close()
        os.close(self._lifeline)
        return self.process.wait()

    def _send(self, message: object) -> None:
        self.since = time.monotonic()
        # A worker that died is noticed when its messages are read.
        with suppress(ConnectionError):
            self.connection.send(message)


class WorkerPool(ABC, Generic[JobT, OutcomeT]):
    """num_workers processes that answer jobs in any order; the caller restores the order.

    A worker that dies is replaced. The job it was working on is tried again alone, and has the
    outcome `died` if the worker dies again; a job that exceeds the limit is `overdue` at once.
    worker_module: its `main(connection_fd, lifeline_fd)` calls `serve`. settings: what the workers
    are built from. timeout_s: of one job; None for no limit.
    """

    worker_module: ClassVar[str]

    def __init__(self, settings: object, timeout_s: float | None, num_workers: int, chunk: int):
        self._settings = settings
        self._timeout_s = timeout_s
        self._chunk = chunk
        self._waiting: deque[JobT] = deque()
        self._suspects: deque[JobT] = deque()
        self._workers: list[Worker[JobT]] = []
        try:
            for _ in range(num_workers):
                self._workers.append(self._new_worker())
        except BaseException:
            self.kill()
            raise

    @abstractmethod
    def died(self, how: str) -> OutcomeT:
        """The outcome of a job whose worker ended twice."""

    @abstractmethod
    def overdue(self) -> OutcomeT:
        """The outcome of a job that took too long."""

    @abstractmethod
    def failed(self, failure: WorkerFailure, job: JobT | None) -> Exception:
        """What to raise for a worker that cannot answer anything. job: None while it was built."""

    @abstractmethod
    def not_started(self, how: str) -> Exception:
        """What to raise for a worker that was never ready."""

    def submit(self, job: JobT) -> None:
        """Queue a job."""
        self._waiting.append(job)

    def collect(self) -> Iterator[tuple[JobT, OutcomeT]]:
        """Wait for the next event; yields the jobs finished since, possibly none. Raises errors
        that do not belong to a job: workers that cannot be built, or cannot answer anything
        here."""
        for worker in self._workers:
            self._feed(worker)
        ready = self._wait_for_event()
        for index, worker in enumerate(self._workers):
            if worker.connection in ready:
                yield from self._receive(index, worker)
            elif self._is_overdue(worker):
                yield from self._stop_overdue(index, worker)

    def close(self) -> None:
        """Stop all workers; those that do not end soon are killed."""
        for worker in self._workers:
            worker.request_stop()
        deadline = time.monotonic() + _CLOSE_LIMIT_S
        for worker in self._workers:
            try:
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                continue
        self.kill()

    def kill(self) -> None:
        """End all workers and everything they started, at once."""
        while self._workers:
            self._workers.pop().kill()

    def _wait_for_event(self) -> Sequence[object]:
        """Wait until a worker has sent something or ended, or a limit is reached; returns the
        connections of those that did."""
        connections = [worker.connection for worker in self._workers]
        return wait(connections, timeout=self._seconds_to_next_limit())

    def _new_worker(self) -> Worker[JobT]:
        return Worker(self.worker_module, self._settings)

    def _feed(self, worker: Worker[JobT]) -> None:
        if not worker.is_ready or worker.jobs:
            return
        if self._suspects:
            worker.send([self._suspects.popleft()], is_retrying=True)
            return
        # Batches get smaller towards the end, so that the last jobs do not wait for one worker.
        share = -(-len(self._waiting) // (2 * len(self._workers)))
        count = min(self._chunk, share)
        if count:
            worker.send([self._waiting.popleft() for _ in range(count)], is_retrying=False)

    def _receive(self, index: int, worker: Worker[JobT]) -> Iterator[tuple[JobT, OutcomeT]]:
        """Handle what the worker has sent so far, or its death."""
        try:
            while worker.connection.poll():
                answer: Any = worker.connection.recv()
                worker.since = time.monotonic()
                if isinstance(answer, WorkerFailure):
                    raise self.failed(answer, worker.jobs[0] if worker.jobs else None)
                if not worker.is_ready:
                    worker.is_ready = True
                    continue
                yield worker.jobs.popleft(), answer
        except (EOFError, ConnectionError):
            yield from self._remove_worker(index, worker)

    def _remove_worker(self, index: int, worker: Worker[JobT]) -> Iterator[tuple[JobT, OutcomeT]]:
        how = _describe(worker.kill())
        if not worker.is_ready:
            raise self.not_started(
                f"a worker process {how} before it could answer anything: see what it printed above"
            )
        self._workers[index] = self._new_worker()
        if worker.jobs and worker.is_retrying:
            yield worker.jobs.popleft(), self.died(how)
        elif worker.jobs:
            self._suspects.append(worker.jobs.popleft())
        self._waiting.extendleft(reversed(worker.jobs))

    def _limit_s(self, worker: Worker[JobT]) -> float | None:
        if not worker.is_ready:
            return START_LIMIT_S
        return self._timeout_s if worker.jobs else None

    def _is_overdue(self, worker: Worker[JobT]) -> bool:
        limit_s = self._limit_s(worker)
        return limit_s is not None and worker.overdue_s(limit_s) > 0

    def _seconds_to_next_limit(self) -> float | None:
        limits = [
            max(0.0, -worker.overdue_s(limit_s))
            for worker in self._workers
            if (limit_s := self._limit_s(worker)) is not None
        ]
        return min(limits, default=None)

    def _stop_overdue(self, index: int, worker: Worker[JobT]) -> Iterator[tuple[JobT, OutcomeT]]:
        worker.kill()
        if not worker.is_ready:
            raise self.not_started(f"a worker process was not ready within {START_LIMIT_S:g} s")
        self._workers[index] = self._new_worker()
        job = worker.jobs.popleft()
        self._waiting.extendleft(reversed(worker.jobs))
        yield job, self.overdue()


def _describe(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    name = signal.Signals(-status).name
    hint = ", as the kernel does when memory runs out," if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"
