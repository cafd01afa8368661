"""MBPP: a sentence that says what a function does, and asserts about it.

Rows have text (prompt in the sanitized set), code, test_list and test_setup_code (test_imports).
Only the asserts name the function, so the prompt shows the first of them; the others stay hidden.
The metadata is that of the verifier assert_tests. Tests and their setup may use more of the
solution than the function: classes and values that the function is called with, and imports. A
response need not know these, so they are provided unless it defines its own.
"""

from distil_core.problems._rows import required_text
from distil_core.problems.base import Problem
from distil_core.problems.row_formats import Row, RowFormat, RowFormatOptions
from distil_core.problems.row_formats._fields import (
    code_problem,
    optional_text,
    text_list,
    uses_of,
)


class Options(RowFormatOptions):
    """None."""


def problem(row: Row) -> Problem:
    """The row's problem. Raises `ValueError` where the asserts call nothing that the solution
    defines."""
    text = required_text(row, "text" if "text" in row else "prompt")
    code, tests = required_text(row, "code"), text_list(row, "test_list")
    setup = "\n".join(text_list(row, "test_imports")) if row.get("test_imports") else ""
    setup = setup or optional_text(row, "test_setup_code")
    try:
        uses = uses_of([*tests, setup], code)
    except SyntaxError as error:
        raise ValueError(f"'code' or 'test_list' is no Python ({error})") from error
    return code_problem(
        f"{text}\nYour code should pass this test, among others:\n{tests[0]}",
        code,
        setup=uses.imports + setup,
        preamble=uses.data,
        entry_point=uses.names[0] if len(uses.names) == 1 else uses.names,
        tests=[{"code": test, "public": index == 0} for index, test in enumerate(tests)],
    )


def build(options: Options) -> RowFormat:
    """The format, by name from the registry."""
    return problem
