"""HumanEval: the beginning of a function, and a test program that defines `check(candidate)`.

Rows have prompt, canonical_solution, test and entry_point. The metadata is that of the verifier
assert_tests: `entry_point`; `setup`, the test program; `tests`, the call of its `check`;
`preamble`, what the prompt has before the function (imports, helpers), for responses that begin
with the function and for tests that use it; and `stub`, the function's beginning, for responses
that are its body.
"""

from distil_core.problems._rows import required_text
from distil_core.problems.base import Problem
from distil_core.problems.row_formats import Row, RowFormat, RowFormatOptions
from distil_core.problems.row_formats._fields import code_problem


class Options(RowFormatOptions):
    """None."""


def problem(row: Row) -> Problem:
    """The row's problem. The reference is the whole program: prompt and solution."""
    prompt, entry_point = required_text(row, "prompt"), required_text(row, "entry_point")
    preamble, found, _ = prompt.rpartition(f"def {entry_point}(")
    if not found:
        raise ValueError(f"expected `def {entry_point}(` in 'prompt', found {prompt[:80]!r}")
    return code_problem(
        prompt,
        prompt + required_text(row, "canonical_solution"),
        entry_point=entry_point,
        preamble=preamble,
        stub=prompt[len(preamble) :],
        setup=required_text(row, "test"),
        tests=[{"code": f"check({entry_point})"}],
    )


def build(options: Options) -> RowFormat:
    """The format, by name from the registry."""
    return problem
