"""The contract of a verifier: what it makes of one rollout."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from distil_core.problems.base import Problem
from distil_core.registry import ComponentOptions
from distil_core.sandbox.limits import Isolation
from distil_core.tables.schemas import FeedbackItem

__all__ = ["FeedbackItem", "Verdict", "Verification", "Verifier", "VerifierOptions"]

Verdict = Literal["correct", "wrong", "malformed"]


class VerifierOptions(ComponentOptions):
    """Base of a verifier's `Options`."""

    @property
    def runs_code_under(self) -> Isolation | None:
        """The isolation under which it runs what a response holds; None where it runs nothing of
        it. It is the built verifier's `isolation` too."""
        return None


@dataclass(frozen=True)
class Verification:
    """reward: in [0, 1]. verdict: 'malformed' is an answer that breaks the task's format, which
    is not the same as a wrong one. feedback: never holds the reference solution unless the
    verifier was built with reveal 'expected_outputs'. isolation: under which the response's own
    code ran; None where nothing of it runs. answer: in one form for all responses that give the
    same one, whose verdicts are then the same too; majority votes and counts of distinct answers
    go by it. None where the text itself stands for the answer, or it gives none."""

    reward: float
    verdict: Verdict
    feedback: tuple[FeedbackItem, ...]
    isolation: str | None = None
    answer: str | None = None


class Verifier(ABC):
    """Judges responses. What it keeps between them (a process, a compiled pattern) never changes
    a verdict, so that order, batch and number of workers do not either.

    isolation: under which it runs what a response holds; None where it runs nothing of it.
    is_bounded: whether it is plain Python whose time and memory go with the length of the texts,
    whatever they say, so that it can neither hang nor end its process: no search, no number that a
    text may make large, no library that could. Then no process of its own watches over it."""

    isolation: Isolation | None = None
    is_bounded: bool = False

    @abstractmethod
    def verify(self, problem: Problem, response: str) -> Verification:
        """Judge a finished response (without its end token), whatever its text: a response never
        raises anything else than `VerifierError`, which says that no verdict can be reached for a
        reason that is not the response's."""

    def check_problem(self, problem: Problem) -> None:  # noqa: B027 - some read nothing of it
        """Raise `VerifierError` where the problem's reference or metadata cannot be read, so that
        no response to it could ever be judged. Called for each problem before anything is sampled:
        it is quick, and runs nothing."""

    def close(self) -> None:  # noqa: B027 - most verifiers hold nothing to release
        """Release processes and files. It may be called more than once."""
