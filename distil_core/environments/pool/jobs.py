"""What an environment is asked, and what comes back."""

from dataclasses import dataclass

from distil_core.environments.base import Step
from distil_core.errors import EnvironmentFault
from distil_core.problems.base import Problem

StepOutcome = Step | EnvironmentFault
"""An environment's answer, or why there is none."""


class NoStepInTimeError(EnvironmentFault):
    """The environment had not answered after `context.environment.step_timeout_s`."""


@dataclass(frozen=True)
class StepJob:
    """One action to answer. actions: all of the rollout so far; the last is the one to answer."""

    problem: Problem
    seed: int
    actions: tuple[str, ...]


@dataclass(frozen=True)
class LaneJob:
    """A job on its way. number: counts those submitted. lane: the process that it belongs to."""

    number: int
    lane: int
    job: StepJob


@dataclass(frozen=True)
class Replayed:
    """Sent for a job whose earlier actions had to be done again: one more of them is done. Each has
    the whole time limit, so that a long rollout is not cut for its length."""
