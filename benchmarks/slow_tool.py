"""An environment whose tool takes its time without computing anything, for `benchmarks.turns`."""

import time

from pydantic import NonNegativeFloat, PositiveInt

from distil_core.config.models import ContextParams, EnvironmentParams
from distil_core.environments.base import Environment, EnvironmentOptions, Step
from distil_core.problems.base import Problem


class Options(EnvironmentOptions):
    """How it answers."""

    delay_s: NonNegativeFloat = 0.0
    """Of each answer."""
    num_answers: PositiveInt = 3
    """Turns that it answers; the one after them is the last."""


def answer(number: int) -> str:
    """Digits, the `number`-th of a rollout from 1 on."""
    return f"{number * 1234567:016d}"


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
        return Step(answer(self._num_steps))


def build(options: Options) -> SlowTool:
    """By its dotted path."""
    return SlowTool(options)


def context_with_it(delay_s: float, num_answers: int, max_context_tokens: int) -> ContextParams:
    """Settings of rollouts that it answers `num_answers` times; the turn after that is the last."""
    environment = EnvironmentParams(
        name="benchmarks.slow_tool",
        options={"delay_s": delay_s, "num_answers": num_answers},
        max_turns=num_answers + 1,
        max_observation_tokens=32,
        observation_template="={observation};",
    )
    return ContextParams(
        student_template="{prompt}|",
        expert_template="{prompt}{attempt}{tool_output}|",
        max_context_tokens=max_context_tokens,
        environment=environment,
    )
