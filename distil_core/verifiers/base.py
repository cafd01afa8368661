"""The contract of a verifier: it judges one response."""

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
        """The isolation under which it runs code from a response; None where it runs none. The
        built verifier's `isolation` is the same."""
        return None


@dataclass(frozen=True)
class Verification:
    """reward: in [0, 1]. verdict: 'malformed' is an answer that breaks the task's format, as
    opposed to a wrong one. feedback: never holds the reference solution unless the verifier was
    built with reveal 'expected_outputs'. isolation: under which the response's code ran; None where
    none ran.

    answer: one form for all responses that give the same answer, which then have the same verdict
    too; majority votes and counts of distinct answers use it. None where the response's text itself
    is the answer, or there is no answer.
    """

    reward: float
    verdict: Verdict
    feedback: tuple[FeedbackItem, ...]
    isolation: str | None = None
    answer: str | None = None


class Verifier(ABC):
    """Judges responses. State that it keeps between them (a process, a compiled pattern) never
    changes a verdict, so that verdicts do not depend on order, batches or the number of workers.

    isolation: under which it runs code from a response; None where it runs none.

    is_bounded: whether it is plain Python whose time and memory grow with the length of the texts
    only, so that no text makes it hang or end its process: no search, no numbers that a text can
    make large, and no library that could do either. Such a verifier needs no process that is
    watched.
    """

    isolation: Isolation | None = None
    is_bounded: bool = False

    @abstractmethod
    def verify(self, problem: Problem, response: str) -> Verification:
        """Judge a finished response (without its end token), whatever its text. A response raises
        nothing but `VerifierError`, which means that no verdict can be reached for a reason outside
        the response."""

    def check_problem(self, problem: Problem) -> None:  # noqa: B027 - some read nothing of it
        """Raise `VerifierError` where the problem's reference or metadata cannot be read, so that
        no response to it could be judged. Called for each problem before sampling; it is quick and
        runs no code."""

    def close(self) -> None:  # noqa: B027 - most verifiers hold nothing to release
        """Release processes and files. May be called more than once."""
