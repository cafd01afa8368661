"""An environment whose tool takes its time without computing anything, for `benchmarks.turns`."""

import time

from pydantic import NonNegativeFloat, PositiveInt

from distil_core.environments.base import Environment, EnvironmentOptions, Step
from distil_core.problems.base import Problem


class Options(EnvironmentOptions):
    """How it answers."""

    delay_s: NonNegativeFloat = 0.0
    """Of each answer."""
    num_answers: PositiveInt = 3
    """Turns that it answers; the one after them is the last."""


class SlowTool(Environment):
    """Whatever the policy writes, it answers with digits."""

    def __init__(self, options: Options):
        self._options = options
        self._num_steps = 0

    def start(self, problem: Problem, seed: int) -> None:
        """Begin."""
        self._num_steps = 0

    def step(self, action: str) -> Step:
        """Answer after the delay."""
        self._num_steps += 1
        if self._num_steps > self._options.num_answers:
            return Step(None)
        time.sleep(self._options.delay_s)
        return Step(f"{self._num_steps * 1234567:016d}")


def build(options: Options) -> SlowTool:
    """By its dotted path."""
    return SlowTool(options)
