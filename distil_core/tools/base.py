"""The contract of a verifier: what it makes of one rollout."""

from dataclasses import dataclass
from typing import Literal, Protocol

from distil_core.problems.base import Problem

Verdict = Literal["correct", "wrong", "malformed"]
FeedbackKind = Literal[
    "execution_trace", "tool_output", "expert_correction", "self_evaluation", "peer_solution"
]


@dataclass(frozen=True)
class FeedbackItem:
    """One piece of rich feedback, as text."""

    kind: FeedbackKind
    text: str


@dataclass(frozen=True)
class Verification:
    """reward: in [0, 1]. verdict: 'malformed' is an answer that breaks the task's format, which
    is not the same as a wrong one. feedback: never holds the reference solution unless the
    verifier was built with reveal 'expected_outputs'."""

    reward: float
    verdict: Verdict
    feedback: tuple[FeedbackItem, ...]


class Verifier(Protocol):
    """Judges responses. Never holds state between them."""

    def verify(self, problem: Problem, response: str) -> Verification:
        """Judge a finished response (without its end token). Raises `VerifierError` when no
        verdict can be reached for a reason that is not the response's."""
        ...
