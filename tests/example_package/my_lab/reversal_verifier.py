"""A verifier: are these the prompt's digits, backwards? Its trace marks the right ones."""

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
    """What an answer earns."""

    partial_reward: bool = False
    """Whether a wrong answer earns the share of its digits that are right."""


class ReversalVerifier(Verifier):
    """Malformed: another number of characters than the prompt has, or one that is no digit."""

    is_bounded = True

    def __init__(self, options: Options, reveals: bool):
        self._options = options
        self._reveals = reveals

    def verify(self, problem: Problem, response: str) -> Verification:
        """The trace has a `+` for each right digit and a `-` for each other one."""
        self.check_problem(problem)
        expected = problem.prompt[::-1]
        formed = len(response) == len(expected) and response.isascii() and response.isdigit()
        marks = ["-+"[found == right] for found, right in zip(response, expected, strict=False)]
        share = marks.count("+") / len(expected) if formed else 0.0
        verdict: Verdict = "malformed" if not formed else "correct" if share == 1 else "wrong"
        feedback = [FeedbackItem("execution_trace", "".join(marks))]
        if self._reveals:
            feedback.append(FeedbackItem("expert_correction", expected))
        return Verification(
            reward=share if self._options.partial_reward else float(share == 1),
            verdict=verdict,
            feedback=tuple(feedback),
            answer=response if formed else None,
        )

    def check_problem(self, problem: Problem) -> None:
        """Raises `VerifierError` for a problem of another source."""
        if not problem.prompt.isdigit() or problem.reference != problem.prompt[::-1]:
            raise VerifierError(
                f"problem {problem.prompt[:40]!r} with solution {problem.reference[:40]!r}: "
                "expected digits, and the same digits backwards"
            )


def build(options: Options, reveal: str) -> ReversalVerifier:
    """reveal: with 'expected_outputs' the feedback holds the solution."""
    return ReversalVerifier(options, reveals=reveal == "expected_outputs")
