"""Environments beside the engine: they answer while the caller computes."""

import threading
from multiprocessing import Pipe
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Self

from distil_core.config.models import EnvironmentParams
from distil_core.environments.base import Step
from distil_core.environments.pool.jobs import LaneJob, NoStepInTimeError, StepJob, StepOutcome
from distil_core.environments.pool.lanes import Lanes
from distil_core.errors import EnvironmentFault
from distil_core.worker_pool import BrokenWorkWatch


class EnvironmentPool:
    """num_workers processes in which environments answer; a thread of this process feeds and
    watches them. Outcomes are the same for any number of processes, and in whatever order they
    finish.

    An environment that dies or hangs costs the others of its process nothing but time: they are
    made again by replay. has_result: whether an environment of this stage has answered before, such
    as in an earlier run that was stopped.
    """

    def __init__(self, params: EnvironmentParams, num_workers: int, has_result: bool = False):
        self._num_workers = num_workers
        self._watch = BrokenWorkWatch[EnvironmentFault](has_result, _no_answer)
        self._pending: dict[int, tuple[int, StepJob]] = {}
        self._num_submitted = 0
        self._submitted: SimpleQueue[LaneJob | None] = SimpleQueue()
        self._finished: SimpleQueue[tuple[int, StepOutcome] | BaseException] = SimpleQueue()
        self._woken, self._wake = Pipe(duplex=False)
        self._lanes = Lanes(params, num_workers, self._woken)
        self._thread = threading.Thread(target=self._drive, name="environments", daemon=True)
        self._thread.start()

    @property
    def num_pending(self) -> int:
        """Jobs that were submitted and not collected."""
        return len(self._pending)

    def submit(self, lane: int, tag: int, job: StepJob) -> None:
        """Hand over a job; returns at once. lane: the same for all jobs of one rollout, so that its
        environment is found again. tag: comes back with the outcome."""
        number = self._num_submitted
        self._num_submitted += 1
        self._pending[number] = tag, job
        self._watch.expect(_key(number))
        self._submitted.put(LaneJob(number, lane % self._num_workers, job))
        self._wake.send_bytes(b"+")

    def collect(self, wait: bool) -> list[tuple[int, StepOutcome]]:
        """Tag and outcome of jobs that have finished since. wait: until there is at least one; the
        list is empty where nothing is pending.

        Raises what does not belong to one rollout: `ConfigError` for an environment that cannot be
        built, `SandboxError` where there is no isolation, and `EnvironmentFault` where no rollout
        had an answer (`BrokenWorkWatch`).
        """
        found: list[tuple[int, StepOutcome]] = []
        while self._pending:
            try:
                item = self._finished.get(block=wait and not found)
            except Empty:
                break
            if isinstance(item, BaseException):
                # Nothing comes after it, so whoever asks again gets it again.
                self._finished.put(item)
                raise item
            number, outcome = item
            tag, job = self._pending.pop(number)
            found.append((tag, outcome))
            failure = None if isinstance(outcome, Step) else outcome
            is_timeout = isinstance(failure, NoStepInTimeError)
            self._watch.note(_key(number), job.problem.problem_id, failure, is_timeout)
        return found

    def close(self) -> None:
        """End all processes and what they started. May be called more than once."""
        if self._thread.is_alive():
            self._submitted.put(None)
            self._wake.send_bytes(b"+")
            self._thread.join()
        self._wake.close()
        self._woken.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        if error is None:
            self._watch.finish()

    def _drive(self) -> None:
        """In the thread: give jobs to the processes and take outcomes from them."""
        try:
            while self._take_submitted():
                for lane_job, outcome in self._lanes.collect_steps():
                    self._finished.put((lane_job.number, outcome))
            if not self._lanes.is_busy:
                self._lanes.close()
        except BaseException as error:
            self._finished.put(error)
        finally:
            self._lanes.kill()

    def _take_submitted(self) -> bool:
        """Queue what was submitted; False where the pool is to end."""
        while self._woken.poll():
            self._woken.recv_bytes()
            lane_job = self._submitted.get()
            if lane_job is None:
                return False
            self._lanes.submit(lane_job)
        return True


def _key(number: int) -> bytes:
    return number.to_bytes(8, "big")


def _no_answer(num_failures: int, first: EnvironmentFault) -> EnvironmentFault:
    error = EnvironmentFault(
        f"the environment answered none of {num_failures} actions, so this stage ends (nothing is "
        f"lost, and it goes on from here). The first: {first}"
    )
    error.__cause__ = first
    return error
