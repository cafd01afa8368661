"""An environment of one to four turns, by the rollout's seed, which answers with a number that all
actions so far decide. It takes its time, so that rollouts overtake each other."""

import time
from zlib import crc32

from distil_core.environments.base import Environment, EnvironmentOptions, FeedbackItem, Step
from distil_core.errors import EnvironmentFault
from distil_core.problems.base import Problem


class Options(EnvironmentOptions):
    """How it answers."""

    faulty: str = ""
    """It breaks at an action with one of these characters."""
    own_verdict: bool = False
    """Whether it judges rollouts itself."""
    delay_s: float = 0.0
    """The longest that it takes for an answer."""

    @property
    def judges(self) -> bool:
        """As set."""
        return self.own_verdict


class Counting(Environment):
    """Done after as many turns as the seed says."""

    def __init__(self, options: Options):
        self._options = options

    def start(self, problem: Problem, seed: int) -> None:
        """Begin."""
        self._so_far = f"{problem.prompt}/{seed}"
        self._left = 1 + seed % 4

    def step(self, action: str) -> Step:
        """Answer."""
        if set(action) & set(self._options.faulty):
            raise EnvironmentFault(f"no answer to {action!r}")
        self._so_far += f"/{action}"
        number = crc32(self._so_far.encode())
        time.sleep(self._options.delay_s * (number % 7) / 7)
        self._left -= 1
        feedback = (FeedbackItem("tool_output", f"so far {number}"),)
        if self._left:
            return Step(
                f"{number % 1000}", reward=0.25, feedback=feedback, is_marked=number % 2 > 0
            )
        if not self._options.own_verdict:
            return Step(None, feedback=feedback)
        is_right = number % 2 == 0
        return Step(None, float(is_right), "correct" if is_right else "wrong", feedback)


def build(options: Options) -> Counting:
    """By its dotted path."""
    return Counting(options)
