"""LiveCodeBench: a contest's problem with public and private tests, on stdin or of one function.

Rows have question_content, starter_code, public_test_cases, private_test_cases and metadata. With a
`func_name` in it, the problem's metadata is that of function calls: `entry_point`, a method of
`class Solution`, and `tests` with `arguments` and `expected` as JSON. Otherwise it is that of
programs: `tests` with `stdin` and `stdout`. Both have the imports of the data set's own grader as
`preamble`. A campaign has one verifier, so its rows must be of one
kind: keep those where `starter_code` is empty, or the others.
"""

import base64
import binascii
import io
import json
import pickle
import zlib
from typing import Any, NoReturn

from distil_core.problems._rows import required_text
from distil_core.problems.base import Problem
from distil_core.problems.row_formats import Row, RowFormat, RowFormatOptions
from distil_core.problems.row_formats._fields import code_problem, optional_text

_MAX_TEST_BYTES = 256 * 2**20
_IMPORTED = (
    *("string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random"),
    *("statistics", "itertools", "functools", "operator", "io", "sys", "json"),
)
# The data set's own grader puts this before every program.
_PREAMBLE = "\n".join(
    [
        *(f"from {name} import *" for name in (*_IMPORTED, "builtins", "typing")),
        f"import {', '.join(_IMPORTED)}",
        "sys.setrecursionlimit(50000)",
        "",
    ]
)


class Options(RowFormatOptions):
    """None."""


def problem(row: Row) -> Problem:
    """The row's problem. These rows have no solution, so the reference is empty."""
    cases = [
        (required_string(test, "input"), required_string(test, "output"), is_public)
        for field, is_public in (("public_test_cases", True), ("private_test_cases", False))
        for test in _tests(row, field)
    ]
    if not cases:
        raise ValueError("no tests in 'public_test_cases' and 'private_test_cases'")
    starter = optional_text(row, "starter_code")
    prompt = required_text(row, "question_content")
    function = json.loads(optional_text(row, "metadata") or "{}").get("func_name")
    if not function:
        tests = [{"stdin": text, "stdout": out, "public": public} for text, out, public in cases]
        return code_problem(prompt, "", preamble=_PREAMBLE, tests=tests)
    return code_problem(
        f"{prompt}\n\nBegin with:\n{starter}",
        "",
        entry_point=f"Solution.{function}",
        preamble=_PREAMBLE,
        values="json",
        tests=[_call(*case) for case in cases],
    )


def _call(text: str, output: str, is_public: bool) -> dict[str, Any]:
    """A test's call. Inputs are JSON values, one per line."""
    try:
        arguments = [json.loads(line) for line in text.split("\n") if line.strip()]
        return {"arguments": arguments, "expected": json.loads(output), "public": is_public}
    except ValueError as error:
        raise ValueError(
            f"expected a test with JSON values, found {text!r:.80} and {output!r:.80} ({error})"
        ) from error


def required_string(test: Any, name: str) -> str:
    """A text field of a test, which may be empty."""
    if not isinstance(test, dict) or not isinstance(test.get(name), str):
        raise ValueError(f"expected a test with text as {name!r}, found {test!r:.80}")
    return str(test[name])


def _tests(row: Row, field: str) -> list[Any]:
    text = optional_text(row, field) or "[]"
    try:
        tests = json.loads(text if text.lstrip().startswith("[") else _unpacked(text))
    except (ValueError, binascii.Error, zlib.error, pickle.UnpicklingError, EOFError) as error:
        raise ValueError(f"{field!r} cannot be read ({error})") from error
    if not isinstance(tests, list):
        raise ValueError(f"{field!r} must hold a list of tests, found {tests!r:.80}")
    return tests


def _unpacked(text: str) -> str:
    """The private tests, which are published as base64 of compressed, pickled text."""
    inflater = zlib.decompressobj()
    content = inflater.decompress(base64.b64decode(text, validate=True), _MAX_TEST_BYTES)
    if inflater.unconsumed_tail:
        raise ValueError(f"more than {_MAX_TEST_BYTES / 2**20:.0f} MB of tests")
    found = _PlainUnpickler(io.BytesIO(content)).load()
    if not isinstance(found, str):
        raise ValueError(f"expected text, found {type(found).__name__}")
    return found


class _PlainUnpickler(pickle.Unpickler):
    """Unpickles plain data only: a pickle could otherwise have any function called."""

    def find_class(self, module_name: str, global_name: str, /) -> NoReturn:
        raise pickle.UnpicklingError(f"it names {module_name}.{global_name}, expected text only")


def build(options: Options) -> RowFormat:
    """The format, by name from the registry."""
    return problem
