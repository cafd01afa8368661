"""The environments of one process: found again by what was done in them, made again by replay."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random

from distil_core.environments.base import Environment, Step
from distil_core.environments.pool.answers import bounded, defect_of
from distil_core.environments.pool.jobs import Replayed, StepJob, StepOutcome
from distil_core.errors import DistilError, EnvironmentFault
from distil_core.worker_pool import described

MAX_LIVE = 32
"""Environments that one process keeps. Of more rollouts than these, some are done again from their
start: any of them, since the one that waited longest is usually the one that comes next."""


@dataclass
class _Live:
    """An environment, and what was done in it: None where it is free for another rollout."""

    environment: Environment
    done: StepJob | None = None


class LiveEnvironments:
    """Answers jobs one step at a time, each from the environment that has done the most of it.

    build: makes another environment. judges: whether they give verdicts themselves.
    """

    def __init__(
        self, build: Callable[[], Environment], judges: bool, max_live: int = MAX_LIVE
    ) -> None:
        self._build, self._judges, self._max_live = build, judges, max_live
        # What cannot be built at all is known at once.
        self._live = [_Live(build())]
        self._random = Random(0)

    def answer(self, job: StepJob) -> StepOutcome | Replayed:
        """Do the first action of the job that is not done yet. Returns the step where that was the
        last, else that there is more to do: ask again. Raises this project's errors other than
        `EnvironmentFault`, which do not belong to one rollout (there is no sandbox)."""
        try:
            live = self._found(job)
        except EnvironmentFault as error:
            return EnvironmentFault(str(error))
        started = live.done is not None
        num_done = len(live.done.actions) if live.done is not None else 0
        live.done = None
        try:
            step = self._step(live.environment, job, num_done, started)
        except EnvironmentFault as error:
            self._live.remove(live)
            with suppress(Exception):
                live.environment.close()
            # A plain one, since not every subclass can be pickled.
            return EnvironmentFault(str(error))
        is_last = num_done + 1 == len(job.actions)
        if step.is_done and not is_last:
            return EnvironmentFault(
                f"the environment has a defect: it ended the rollout at turn {num_done + 1}, and "
                "went on when the same was done before; the same actions must lead to the same"
            )
        if not step.is_done:
            live.done = StepJob(job.problem, job.seed, job.actions[: num_done + 1])
        return step if is_last else Replayed()

    def close(self) -> None:
        """Close all of them."""
        while self._live:
            self._live.pop().environment.close()

    def _found(self, job: StepJob) -> _Live:
        """The environment that has done the most of the job, else one to start it in."""
        fitting = [live for live in self._live if _is_before(live.done, job)]
        if fitting:
            found = max(fitting, key=_num_done)
        elif free := [live for live in self._live if live.done is None]:
            found = free[0]
        elif len(self._live) < self._max_live:
            found = _Live(self._another())
            self._live.append(found)
        else:
            found = self._random.choice(self._live)
            found.done = None
        return found

    def _another(self) -> Environment:
        try:
            return self._build()
        except DistilError:
            raise
        except Exception as error:
            raise EnvironmentFault(
                "the environment cannot be built once more, which is a defect of it: "
                f"{described(error)}"
            ) from error

    def _step(self, environment: Environment, job: StepJob, num_done: int, started: bool) -> Step:
        try:
            if not started:
                environment.start(job.problem, job.seed)
            step = environment.step(job.actions[num_done])
            if (reason := defect_of(step, self._judges)) is not None:
                raise EnvironmentFault(f"the environment has a defect: it gave {reason}")
            return bounded(step)
        except DistilError:
            raise
        except (Exception, SystemExit) as error:
            raise EnvironmentFault(
                f"the environment failed at turn {num_done + 1} of this rollout, which is a defect "
                f"of it: {described(error)}"
            ) from error


def _is_before(done: StepJob | None, job: StepJob) -> bool:
    return (
        done is not None
        and done.seed == job.seed
        and len(done.actions) < len(job.actions)
        and done.actions == job.actions[: len(done.actions)]
        and done.problem == job.problem
    )


def _num_done(live: _Live) -> int:
    return len(live.done.actions) if live.done is not None else 0
