"""Verifier of multiple choice: whether the slot is among those accepted for this problem."""

import json

from distil_core.problems.base import Problem
from distil_core.registry import ComponentOptions
from distil_core.tools.base import FeedbackItem, Verdict, Verification, Verifier


class Options(ComponentOptions):
    """Nothing to choose: what is accepted stands in the problem's metadata."""


class MultipleChoiceVerifier(Verifier):
    """Malformed: not exactly one slot of the problem, by number."""

    def __init__(self, reveal: str):
        self._reveal = reveal

    def verify(self, problem: Problem, response: str) -> Verification:
        accepted = json.loads(problem.metadata)["accepted"]
        verdict: Verdict
        slots = "0123456789"[: len(problem.prompt) - 1]
        if len(response) != 1 or response not in slots:
            verdict = "malformed"
        else:
            verdict = "correct" if response in accepted else "wrong"
        text = accepted if self._reveal == "expected_outputs" else verdict
        return Verification(
            reward=float(verdict == "correct"),
            verdict=verdict,
            feedback=(FeedbackItem("tool_output", text),),
        )


def build(options: Options, reveal: str) -> MultipleChoiceVerifier:
    """reveal: with 'expected_outputs' the feedback is the accepted slots, else the verdict."""
    return MultipleChoiceVerifier(reveal)
