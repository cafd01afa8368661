"""A calculator between the turns of a policy that adds and subtracts (problem source tool_sums).

`37+8` is answered with `45`, and what has a sign but is no call with `?`. A turn without a sign is
the answer, which ends the rollout. The trace of each turn says what was to be done there,
from what the rollout itself had done by then: a wrong call changes nothing, so that what follows it
is still right.
"""

from distil_core.environments.base import Environment, EnvironmentOptions, FeedbackItem, Step
from distil_core.errors import EnvironmentFault
from distil_core.problems.base import Problem
from distil_core.problems.tool_sums import Sum, is_answer, read_call
from distil_core.tools import calculator

NO_CALL = "?"
"""The answer to a call that cannot be read."""


class Options(EnvironmentOptions):
    """The calculator of the problem source tool_sums. It has no options."""


class ToolSumsEnvironment(Environment):
    """Gives each turn's right action as its execution_trace, and marks turns with another one."""

    _left: Sum

    def __init__(self) -> None:
        self._calculator = calculator.build(calculator.Options())

    def start(self, problem: Problem, seed: int) -> None:
        """Raises `EnvironmentFault` for a problem that is no sum."""
        try:
            self._left = Sum.of(problem.prompt)
        except ValueError as error:
            raise EnvironmentFault(
                f"problem {problem.problem_id}: {error}; the environment tool_sums is for the "
                "problem source of that name"
            ) from error

    def step(self, action: str) -> Step:
        right = self._left.right_action
        self._left = self._left.called(action)
        return Step(
            observation=self._answer(action),
            feedback=(FeedbackItem("execution_trace", right),),
            is_marked=action != right,
        )

    def _answer(self, action: str) -> str | None:
        if is_answer(action):
            return None
        call = read_call(action)
        if call is None:
            return NO_CALL
        value, sign, operand = call
        (function,) = self._calculator.functions
        arguments = {"expression": f"{value}{sign}{operand}"}
        return self._calculator.call(function.name, arguments).text


def build(options: Options) -> ToolSumsEnvironment:
    """The environment, by name from the registry."""
    return ToolSumsEnvironment()
