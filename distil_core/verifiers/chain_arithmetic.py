"""Strict verifier of chain arithmetic: every line must be right; its tool re-executes each line.

For each line of the attempt, the execution trace gives the value that the step really yields FROM
THE ATTEMPT'S OWN PREVIOUS LINE. So it is right at the states that the student visited, also after a
slip. Feedback that jumped back to the gold solution there would teach the expert to ignore the line
above, and training on it collapsed
(docs/domains.md#feedback-at-states-off-the-solutions-path).
"""

from typing import Literal

from pydantic import Field

from distil_core.problems.base import Problem
from distil_core.problems.chain_arithmetic import re_executed, steps
from distil_core.verifiers._re_execution import require_modulus
from distil_core.verifiers.base import FeedbackItem, Verification, Verifier, VerifierOptions


class Options(VerifierOptions):
    """Every line of the chain is worked out again."""

    modulus: int = Field(ge=2, le=10)
    """The problem source's."""


class ChainArithmeticVerifier(Verifier):
    """Malformed: not exactly one digit below the modulus for each operation. Raises `VerifierError`
    for a problem with another modulus, whose traces would all be wrong."""

    is_bounded = True

    def __init__(self, options: Options):
        self._modulus = options.modulus

    def verify(self, problem: Problem, response: str) -> Verification:
        self.check_problem(problem)
        lines = len(steps(problem.prompt))
        digits = "0123456789"[: self._modulus]
        if response == problem.reference:
            verdict: Literal["correct", "wrong", "malformed"] = "correct"
        elif len(response) == lines and all(line in digits for line in response):
            verdict = "wrong"
        else:
            verdict = "malformed"
        trace = re_executed(problem.prompt, response, self._modulus)
        return Verification(
            reward=float(verdict == "correct"),
            verdict=verdict,
            feedback=(FeedbackItem("execution_trace", trace),),
        )

    def check_problem(self, problem: Problem) -> None:
        require_modulus(problem, self._modulus, re_executed)


def build(options: Options, reveal: str) -> ChainArithmeticVerifier:
    """`reveal` changes nothing: the trace never holds more than the attempt's own lines imply."""
    return ChainArithmeticVerifier(options)
