"""The pool's processes from the parent's side: one for each lane."""

from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait

from distil_core.config.models import EnvironmentParams
from distil_core.environments.pool.jobs import LaneJob, NoStepInTimeError, Replayed, StepOutcome
from distil_core.errors import EnvironmentFault
from distil_core.worker_pool import WorkerFailure, WorkerPool
from distil_core.worker_pool.pool import Worker


class Lanes(WorkerPool[LaneJob, StepOutcome | Replayed]):
    """Processes that answer jobs one by one, each those of its own lane, so that a rollout finds
    its live environment again. A job on which one dies twice, or of which one step exceeds the
    limit, is an `EnvironmentFault`."""

    worker_module = "distil_core.environments.pool.worker"

    def __init__(self, params: EnvironmentParams, num_lanes: int, wake: Connection):
        self._wake = wake
        self._of_lane: list[deque[LaneJob]] = [deque() for _ in range(num_lanes)]
        self._retried: set[int] = set()
        super().__init__(params, params.step_timeout_s, num_lanes, chunk=1)

    def submit(self, job: LaneJob) -> None:
        """Queue a job of its lane."""
        self._of_lane[job.lane].append(job)

    def collect_steps(self) -> Iterator[tuple[LaneJob, StepOutcome]]:
        """Like `collect`, without what was only done again: those jobs go on."""
        for job, outcome in self.collect():
            if isinstance(outcome, Replayed):
                self._of_lane[job.lane].appendleft(job)
            else:
                self._retried.discard(job.number)
                yield job, outcome

    @property
    def is_busy(self) -> bool:
        """Whether a process is at work, and so could not end in order."""
        return any(worker.jobs or not worker.is_ready for worker in self._workers)

    def died(self, how: str) -> StepOutcome:
        """A rollout's error."""
        return EnvironmentFault(f"the environment's process {how} on this rollout, twice")

    def overdue(self) -> StepOutcome:
        """A rollout's error."""
        return NoStepInTimeError(
            f"no answer within {self._timeout_s:g} s (context.environment.step_timeout_s); the "
            "environment's process was ended"
        )

    def failed(self, failure: WorkerFailure, job: LaneJob | None) -> Exception:
        """The environment's own error, or that it has a defect."""
        if failure.error is not None:
            return failure.error
        where = "while it was built"
        if job is not None:
            where = f"on problem {job.job.problem.problem_id}"
        return EnvironmentFault(
            f"the environment failed {where}, which is a defect of it:\n{failure.text}"
        )

    def not_started(self, how: str) -> Exception:
        """That it answered nothing."""
        return EnvironmentFault(f"the environment: {how}")

    def _feed(self, worker: Worker[LaneJob]) -> None:
        if not worker.is_ready or worker.jobs:
            return
        of_lane = self._of_lane[self._workers.index(worker)]
        # A job whose process died is the first of its lane again.
        while self._suspects:
            suspect = self._suspects.popleft()
            self._retried.add(suspect.number)
            self._of_lane[suspect.lane].appendleft(suspect)
        if of_lane:
            job = of_lane.popleft()
            worker.send([job], is_retrying=job.number in self._retried)

    def _wait_for_event(self) -> Sequence[object]:
        connections = [worker.connection for worker in self._workers]
        # A job that is submitted is an event too.
        return wait([*connections, self._wake], timeout=self._seconds_to_next_limit())
