"""Strict verifier of unit algebra: every exponent must be right; its tool checks dimensions.

For each line of the attempt, the execution trace gives the exponents that the operation really
yields FROM THE ATTEMPT'S OWN PREVIOUS LINE, so it is right at the states that the student visited,
also after a slip.
"""

import re

from distil_core.errors import VerifierError
from distil_core.problems.base import Problem
from distil_core.problems.unit_algebra import re_executed
from distil_core.verifiers._re_execution import confirms_reference
from distil_core.verifiers.base import (
    FeedbackItem,
    Verdict,
    Verification,
    Verifier,
    VerifierOptions,
)

_SOLUTION = re.compile("(?:[a-i0-9]{4} )*[a-i0-9]{4}")


class Options(VerifierOptions):
    """Nothing to choose: the units are the problem source's."""


class UnitAlgebraVerifier(Verifier):
    """Malformed: not four exponents for each operation, with lines separated by one space. Raises
    `VerifierError` where the problem's own solution does not follow from the problem."""

    is_bounded = True

    def verify(self, problem: Problem, response: str) -> Verification:
        self.check_problem(problem)
        formed = len(response) == len(problem.reference) and _SOLUTION.fullmatch(response)
        verdict: Verdict = "wrong" if formed else "malformed"
        if response == problem.reference:
            verdict = "correct"
        trace = re_executed(problem.prompt, response)
        return Verification(
            reward=float(verdict == "correct"),
            verdict=verdict,
            feedback=(FeedbackItem("execution_trace", trace),),
        )

    def check_problem(self, problem: Problem) -> None:
        if not confirms_reference(problem, re_executed):
            raise VerifierError(
                f"problem {problem.prompt!r} has the solution {problem.reference!r}, which the "
                "units in it do not give: problems.source must be unit_algebra"
            )


def build(options: Options, reveal: str) -> UnitAlgebraVerifier:
    """`reveal` changes nothing: the trace never holds more than the attempt's own lines imply."""
    return UnitAlgebraVerifier()
