"""Verifier of expressions fitted to examples, which runs what the model wrote in the sandbox only.

The expression is evaluated on the prompt's examples and on hidden inputs, one call each. The
answers are compared here: expected values never enter the sandbox.
"""

import json
from collections.abc import Sequence

from distil_core.errors import VerifierError
from distil_core.problems.base import Problem
from distil_core.problems.linear_expression import (
    asked_changes,
    example_inputs,
    outputs,
    variables,
)
from distil_core.sandbox import (
    Call,
    CallResult,
    Isolation,
    Limits,
    NotPlainDataError,
    ProgramResult,
    Sandbox,
)
from distil_core.verifiers.base import (
    FeedbackItem,
    Verdict,
    Verification,
    Verifier,
    VerifierOptions,
)

_LIMITS = Limits(cpu_time_s=1.0, memory_mb=256, disk_mb=1, output_kb=16, answer_kb=16)
_MAX_NAME_CHARACTERS = 24
"""Longer than any of Python's own exceptions has."""


class Options(VerifierOptions):
    """Nothing to choose: examples and hidden tests stand in the problem."""

    @property
    def runs_code_under(self) -> Isolation:
        """The sandbox's own choice."""
        return "bubblewrap_zygote"


class LinearExpressionVerifier(Verifier):
    """Reward 1 where the value is exactly right, and an int, for every example and hidden test.

    Malformed: no expression, or one that yields no int on one of the examples.

    Feedback is an execution trace of the attempt's values on the examples. `4+2*y-1*x+3*z` yields
    4, 6, 5 and 8 where 4, 7, 6 and 9 are asked for, and its trace is `4+3@y+0@x+4@z`: the first
    example's value; then +3, which the example that sets y needs; then +0 at x, since the attempt
    stood at 6 already; then +4 at z, since it stood at 5. So each entry is right for an expression
    that begins like the attempt, also after a slip. Where a run ends early, the trace ends too,
    with the exception's name. Nothing is said about hidden tests.
    """

    def __init__(self) -> None:
        self._sandbox = Sandbox(_LIMITS, "bubblewrap_zygote")
        self.isolation = self._sandbox.isolation

    def verify(self, problem: Problem, response: str) -> Verification:
        """Judge the response. Raises `SandboxError` where there is no sandbox, and `VerifierError`
        for a problem of another source."""
        inputs, wanted = _tests(problem)
        names, expected = variables(problem.prompt), outputs(problem.prompt)
        run = self._sandbox.run_calls(
            _program(response, names), [Call("f", values) for values in inputs]
        )
        found = [_outcome(call) for call in run.calls]
        finished = run.ending == "exited" and run.exit_code == 0
        verdict: Verdict = "wrong"
        if finished and found == wanted:
            verdict = "correct"
        elif not all(isinstance(value, int) for value in found[: len(expected)]):
            verdict = "malformed"
        trace = _trace(problem.prompt, run, found[: len(expected)])
        return Verification(
            reward=float(verdict == "correct"),
            verdict=verdict,
            feedback=(FeedbackItem("execution_trace", trace),),
            isolation=run.isolation,
        )

    def check_problem(self, problem: Problem) -> None:
        _tests(problem)

    def close(self) -> None:
        """End the sandbox's processes; the next response starts new ones."""
        self._sandbox.close()


def _tests(problem: Problem) -> tuple[list[tuple[int, ...]], list[int]]:
    """Arguments and expected value of each example and hidden test."""
    try:
        names, expected = variables(problem.prompt), outputs(problem.prompt)
        hidden = json.loads(problem.metadata)["hidden_tests"]
        inputs = [*example_inputs(len(names)), *(tuple(test["inputs"]) for test in hidden)]
        return inputs, [*expected, *(test["output"] for test in hidden)]
    except (ValueError, LookupError, TypeError) as error:
        raise VerifierError(
            f"problem {problem.prompt!r} holds no examples and hidden tests: problems.source "
            "must be linear_expression"
        ) from error


def _program(text: str, names: str) -> str:
    """A program whose `f` evaluates `text`. The text is data in it, so it can only be one
    expression, which is given the variables by name."""
    return (
        f"expression = compile({text!r}, '<expression>', 'eval')\n"
        f"def f(*values):\n"
        f"    return eval(expression, dict(zip({names!r}, values, strict=True)))\n"
    )


def _outcome(call: CallResult) -> int | str:
    """The int that a call returned, or a word for what it did instead."""
    if call.status == "raised" and call.exception is not None:
        return call.exception.type[:_MAX_NAME_CHARACTERS]
    if call.status != "returned":
        return call.status
    try:
        value = call.value
    except NotPlainDataError:
        return "object"
    # To Python a bool is an int, but it is not the number asked for.
    return value if type(value) is int else type(value).__name__


def _trace(prompt: str, run: ProgramResult, found: Sequence[int | str]) -> str:
    if run.exception is not None:
        return run.exception.type[:_MAX_NAME_CHARACTERS]
    yielded: list[int] = []
    for value in found:
        if isinstance(value, str):
            break
        yielded.append(value)
    asked = zip(asked_changes(prompt, yielded), variables(prompt), strict=False)
    trace = str(outputs(prompt)[0]) + "".join(f"{change:+d}@{name}" for change, name in asked)
    return trace if len(yielded) == len(found) else f"{trace} {found[len(yielded)]}"


def build(options: Options, reveal: str) -> LinearExpressionVerifier:
    """`reveal` changes nothing: the examples are the prompt's own, hidden tests stay hidden."""
    return LinearExpressionVerifier()
