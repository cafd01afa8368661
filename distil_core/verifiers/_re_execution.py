"""What strict verifiers share that re-execute each line of an attempt."""

from collections.abc import Callable

from distil_core.errors import VerifierError
from distil_core.problems.base import Problem


def confirms_reference(problem: Problem, re_execute: Callable[[str, str], str]) -> bool:
    """Whether `re_execute(prompt, attempt)` gives the problem's own solution back: each of its
    lines is what the line before it yields."""
    try:
        return re_execute(problem.prompt, problem.reference) == problem.reference
    except (ValueError, LookupError):
        return False


def require_modulus(
    problem: Problem, modulus: int, re_execute: Callable[[str, str, int], str]
) -> None:
    """Raise `VerifierError` for a problem of another modulus, whose traces would all be wrong."""
    if not confirms_reference(
        problem, lambda prompt, attempt: re_execute(prompt, attempt, modulus)
    ):
        raise VerifierError(
            f"problem {problem.prompt!r} with solution {problem.reference!r} is not of modulus "
            f"{modulus}: consult.verifier.options.modulus must be the one in "
            "problems.source.options"
        )
