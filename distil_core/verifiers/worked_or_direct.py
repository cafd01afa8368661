"""Verifier of sums that are worked out or claimed: the last character must be the total.

Its tool re-executes each character from the attempt's own previous one, along the way it chose.
"""

from pydantic import Field

from distil_core.problems.base import Problem
from distil_core.problems.worked_or_direct import DIRECT, WORKED, labels, total
from distil_core.verifiers._re_execution import require_modulus
from distil_core.verifiers.base import (
    FeedbackItem,
    Verdict,
    Verification,
    Verifier,
    VerifierOptions,
)


class Options(VerifierOptions):
    """Every line is worked out again, or the claim is compared."""

    modulus: int = Field(ge=2, le=10)
    """The problem source's."""


class WorkedOrDirectVerifier(Verifier):
    """Malformed: a response that is not a way followed by one digit below the modulus for each
    further character."""

    is_bounded = True

    def __init__(self, options: Options, reveal: str):
        self._modulus = options.modulus
        self._reveals = reveal == "expected_outputs"

    def verify(self, problem: Problem, response: str) -> Verification:
        """Judge the response. Raises `VerifierError` for a problem that is not of the source with
        this modulus."""
        self.check_problem(problem)
        formed = self._is_formed(problem, response)
        right = formed and response[-1] == total(problem.prompt, self._modulus)
        verdict: Verdict = "correct" if right else "wrong" if formed else "malformed"
        trace = labels(problem.prompt, response, self._modulus)
        # In a direct attempt the last label is the answer itself, not implied by the lines above.
        if response[:1] == DIRECT and not self._reveals:
            trace = trace[: len(problem.reference) - 1]
        return Verification(
            reward=float(right),
            verdict=verdict,
            feedback=(FeedbackItem("execution_trace", trace),),
            # The total, whichever way was chosen.
            answer=response[-1] if formed else None,
        )

    def check_problem(self, problem: Problem) -> None:
        """The reference works the problem out, so each of its lines is its own label."""
        require_modulus(problem, self._modulus, labels)

    def _is_formed(self, problem: Problem, response: str) -> bool:
        digits = "0123456789"[: self._modulus]
        return (
            len(response) == len(problem.reference)
            and response[0] in (WORKED, DIRECT)
            and all(line in digits for line in response[1:])
        )


def build(options: Options, reveal: str) -> WorkedOrDirectVerifier:
    """reveal: with 'expected_outputs' the trace of a direct attempt holds the total."""
    return WorkedOrDirectVerifier(options, reveal)
