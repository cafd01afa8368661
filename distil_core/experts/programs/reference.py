"""Follows the problem's reference: its rest where the response is right so far, else nothing."""

from collections.abc import Mapping

from distil_core.experts.programs.base import Program, ProgramOptions, Reply
from distil_core.problems.base import Problem


class Options(ProgramOptions):
    """None."""


def continued_reference(
    problem: Problem, response_so_far: str, feedback: Mapping[str, str]
) -> Reply:
    """What is left of the reference."""
    if not problem.reference.startswith(response_so_far):
        return None
    return problem.reference[len(response_so_far) :]


def build(options: Options) -> Program:
    """A function."""
    return continued_reference
