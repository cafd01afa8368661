"""Verifier of word problems with one number as answer, such as GSM8K's `#### 18`.

Its tool re-executes the arithmetic that the attempt writes down: every `48 / 2 = 24` is computed
again, and each one that does not hold is reported with what it really yields.
"""

import re
from fractions import Fraction

from distil_core.errors import VerifierError
from distil_core.problems.base import Problem
from distil_core.registry import ComponentOptions
from distil_core.tools._written_arithmetic import plain, wrong_equations
from distil_core.tools.base import FeedbackItem, Verification, Verifier

# Digits are bounded: a longer run of them is no answer, and converting it would cost.
_NUMBER = r"-?\$?\d[\d,]{0,40}(?:\.\d{1,40})?(?!\d)"
_MARKED_ANSWER = re.compile(rf"####\s*({_NUMBER})")
_BOXED_ANSWER = re.compile(rf"\\boxed\{{\s*({_NUMBER})\s*\}}")


class Options(ComponentOptions):
    """None: the answer is the last `#### number` or `\\boxed{number}` of the response."""


def final_number(text: str) -> Fraction | None:
    """The number in the last `#### ..` or `\\boxed{..}`, or None."""
    marked = [*_MARKED_ANSWER.finditer(text), *_BOXED_ANSWER.finditer(text)]
    return _fraction(max(marked, key=lambda match: match.start())[1]) if marked else None


class FinalNumberVerifier(Verifier):
    """Malformed: a response without a marked number. Reward 1 for the reference's number."""

    def __init__(self, reveal: str):
        self._reveal = reveal

    def verify(self, problem: Problem, response: str) -> Verification:
        """Raises `VerifierError` when the reference itself holds no number."""
        expected = final_number(problem.reference)
        if expected is None:
            raise VerifierError(
                f"the reference of problem {problem.problem_id} holds no '#### number': "
                f"{problem.reference[-80:]!r}"
            )
        found = final_number(response)
        feedback = [FeedbackItem("tool_output", line) for line in wrong_equations(response)]
        if found is None:
            line = "The response ends without a line '#### number'."
            feedback.append(FeedbackItem("tool_output", line))
        elif found != expected:
            answer = f"The final answer {plain(found)} is wrong"
            if self._reveal == "expected_outputs":
                answer += f"; it is {plain(expected)}"
            feedback.append(FeedbackItem("tool_output", f"{answer}."))
        return Verification(
            reward=float(found == expected),
            verdict="malformed" if found is None else "correct" if found == expected else "wrong",
            feedback=tuple(feedback),
            answer=None if found is None else str(found),
        )


def _fraction(number: str) -> Fraction:
    return Fraction(number.replace("$", "").replace(",", ""))


def build(options: Options, reveal: str) -> FinalNumberVerifier:
    """The verifier, by name from the registry."""
    return FinalNumberVerifier(reveal)
