"""Verifier of multiple choice: is the slot among those that this problem accepts?"""

import json

from distil_core.errors import VerifierError
from distil_core.problems.base import Problem
from distil_core.verifiers.base import (
    FeedbackItem,
    Verdict,
    Verification,
    Verifier,
    VerifierOptions,
)


class Options(VerifierOptions):
    """Nothing to choose: what is accepted stands in the problem's metadata."""


class MultipleChoiceVerifier(Verifier):
    """Malformed: a response that is not exactly one of the problem's slots, by number."""

    is_bounded = True

    def __init__(self, reveal: str):
        self._reveal = reveal

    def verify(self, problem: Problem, response: str) -> Verification:
        """Raises `VerifierError` where the metadata does not say which slots are accepted."""
        accepted = _accepted(problem)
        verdict: Verdict
        if len(response) != 1 or response not in _slots(problem):
            verdict = "malformed"
        else:
            verdict = "correct" if response in accepted else "wrong"
        text = accepted if self._reveal == "expected_outputs" else verdict
        return Verification(
            reward=float(verdict == "correct"),
            verdict=verdict,
            feedback=(FeedbackItem("tool_output", text),),
        )

    def check_problem(self, problem: Problem) -> None:
        _accepted(problem)


def _accepted(problem: Problem) -> str:
    """The accepted slots' digits."""
    try:
        metadata = json.loads(problem.metadata)
    except (ValueError, RecursionError):
        metadata = None
    accepted = metadata.get("accepted") if isinstance(metadata, dict) else None
    if not isinstance(accepted, str) or not accepted or not set(accepted) <= set(_slots(problem)):
        raise VerifierError(
            f"the metadata of problem {problem.problem_id} must name slots of its prompt, such as "
            f'{{"accepted": "02"}}; found {problem.metadata[:80]!r}'
        )
    return accepted


def _slots(problem: Problem) -> str:
    return "0123456789"[: max(0, len(problem.prompt) - 1)]


def build(options: Options, reveal: str) -> MultipleChoiceVerifier:
    """reveal: with 'expected_outputs' the feedback is the accepted slots, else the verdict."""
    return MultipleChoiceVerifier(reveal)
