"""HumanEval: the beginning of a function, and a test program that defines `check(candidate)`.

Rows have prompt, canonical_solution, test and entry_point. The metadata holds
assert-style tests: `setup`, a program run before them; `names`, the functions that they call; and
`tests`.
"""

from distil_core.problems._rows import required_text
from distil_core.problems.base import Problem
from distil_core.problems.row_formats import Row, RowFormat
from distil_core.problems.row_formats._fields import code_problem
from distil_core.registry import ComponentOptions


class Options(ComponentOptions):
    """None."""


def problem(row: Row) -> Problem:
    """The reference is the whole program, prompt and solution."""
    prompt, entry_point = required_text(row, "prompt"), required_text(row, "entry_point")
    return code_problem(
        prompt,
        prompt + required_text(row, "canonical_solution"),
        setup=required_text(row, "test"),
        names=[entry_point],
        tests=[f"check({entry_point})"],
    )


def build(options: Options) -> RowFormat:
    """The format, by name from the registry."""
    return problem
