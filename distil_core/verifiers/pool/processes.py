"""Worker processes for verification, from the parent's side: start, feed, watch, replace."""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import wait
from typing import Any

from distil_core.config.models import ConsultParams
from distil_core.errors import VerifierError
from distil_core.verifiers.pool.jobs import NoVerdictInTimeError, Outcome, VerificationJob
from distil_core.verifiers.pool.worker import WorkerFailure

_START_LIMIT_S = 180.0
_CLOSE_LIMIT_S = 10.0
_PROGRAM = "from distil_core.verifiers.pool.worker import main; main({connection}, {lifeline})"

Finished = tuple[VerificationJob, Outcome]


class Worker:
    """One process in its own session. `jobs`: those it was sent and has not answered."""

    def __init__(self, params: ConsultParams):
        self.connection, child = Pipe()
        lifeline, self._lifeline = os.pipe()
        try:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    _PROGRAM.format(connection=child.fileno(), lifeline=lifeline),
                ],
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
        self.jobs: deque[VerificationJob] = deque()
        self._send(params)

    def send(self, jobs: Sequence[VerificationJob], is_retrying: bool) -> None:
        """Send it jobs."""
        self.jobs.extend(jobs)
        self.is_retrying = is_retrying
        self._send(list(jobs))

    def overdue_s(self, limit_s: float) -> float:
        """By how many seconds the current row exceeds the limit."""
        return time.monotonic() - self.since - limit_s

    def request_stop(self) -> None:
        """Ask it to close its verifier and end."""
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


class Pool:
    """num_workers processes that judge jobs in any order; the caller restores the order.

    A worker that dies is replaced. The row it was working on is tried again alone, and is a
    `VerifierError` if the worker dies again; a row that exceeds the limit is a `VerifierError` at
    once.
    """

    def __init__(self, params: ConsultParams, num_workers: int, chunk_size: int):
        self._params = params
        self._chunk_size = chunk_size
        self._waiting: deque[VerificationJob] = deque()
        self._suspects: deque[VerificationJob] = deque()
        self._workers: list[Worker] = []
        try:
            for _ in range(num_workers):
                self._workers.append(Worker(params))
        except BaseException:
            self.kill()
            raise

    def submit(self, job: VerificationJob) -> None:
        """Queue a job."""
        self._waiting.append(job)

    def collect(self) -> Iterator[Finished]:
        """Wait for the next event; yields the jobs finished since, possibly none. Raises errors
        that do not belong to a row: a verifier that cannot be built, or cannot judge anything
        here."""
        for worker in self._workers:
            self._feed(worker)
        connections = [worker.connection for worker in self._workers]
        ready = wait(connections, timeout=self._seconds_to_next_limit())
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

    def _feed(self, worker: Worker) -> None:
        if not worker.is_ready or worker.jobs:
            return
        if self._suspects:
            worker.send([self._suspects.popleft()], is_retrying=True)
            return
        # Batches get smaller towards the end, so that the last rows do not wait for one worker.
        share = -(-len(self._waiting) // (2 * len(self._workers)))
        count = min(self._chunk_size, share)
        if count:
            worker.send([self._waiting.popleft() for _ in range(count)], is_retrying=False)

    def _receive(self, index: int, worker: Worker) -> Iterator[Finished]:
        """Handle what the worker has sent so far, or its death."""
        try:
            while worker.connection.poll():
                answer: Any = worker.connection.recv()
                worker.since = time.monotonic()
                if isinstance(answer, WorkerFailure):
                    raise _as_error(answer, worker.jobs[0] if worker.jobs else None)
                if not worker.is_ready:
                    worker.is_ready = True
                    continue
                yield worker.jobs.popleft(), answer
        except (EOFError, ConnectionError):
            yield from self._remove_worker(index, worker)

    def _remove_worker(self, index: int, worker: Worker) -> Iterator[Finished]:
        how = _describe(worker.kill())
        if not worker.is_ready:
            raise VerifierError(
                f"a worker process {how} before it could judge anything: see what it printed above"
            )
        self._workers[index] = Worker(self._params)
        if worker.jobs and worker.is_retrying:
            job = worker.jobs.popleft()
            yield job, VerifierError(f"the verifier's process {how} on this response, twice")
        elif worker.jobs:
            self._suspects.append(worker.jobs.popleft())
        self._waiting.extendleft(reversed(worker.jobs))

    def _limit_s(self, worker: Worker) -> float | None:
        if not worker.is_ready:
            return _START_LIMIT_S
        return self._params.verify_timeout_s if worker.jobs else None

    def _is_overdue(self, worker: Worker) -> bool:
        limit_s = self._limit_s(worker)
        return limit_s is not None and worker.overdue_s(limit_s) > 0

    def _seconds_to_next_limit(self) -> float | None:
        limits = [
            max(0.0, -worker.overdue_s(limit_s))
            for worker in self._workers
            if (limit_s := self._limit_s(worker)) is not None
        ]
        return min(limits, default=None)

    def _stop_overdue(self, index: int, worker: Worker) -> Iterator[Finished]:
        worker.kill()
        if not worker.is_ready:
            raise VerifierError(
                f"the verifier was not ready within {_START_LIMIT_S:g} s in a worker process"
            )
        self._workers[index] = Worker(self._params)
        job = worker.jobs.popleft()
        self._waiting.extendleft(reversed(worker.jobs))
        yield (
            job,
            NoVerdictInTimeError(
                f"no verdict within {self._params.verify_timeout_s:g} s "
                "(consult.verify_timeout_s); the verifier's process was ended"
            ),
        )


def _as_error(failure: WorkerFailure, job: VerificationJob | None) -> Exception:
    if failure.error is not None:
        return failure.error
    where = "while it was built" if job is None else f"on problem {job.problem.problem_id}"
    return VerifierError(f"the verifier failed {where}, which is a defect of it:\n{failure.text}")


def _describe(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    name = signal.Signals(-status).name
    hint = ", as the kernel does when memory runs out," if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"
