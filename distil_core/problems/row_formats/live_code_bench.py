"""LiveCodeBench: a contest's problem with public and private tests, on stdin or of one function.

Rows have question_content, starter_code, public_test_cases, private_test_cases and metadata. The
metadata of the problem holds `tests`, each with `input` and `output` as text, and `function`: null
for whole programs that read stdin, else the method of `class Solution` to call; its inputs are
JSON values, one a line, and its output is one.
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
from distil_core.problems.row_formats import Row, RowFormat
from distil_core.problems.row_formats._fields import code_problem, optional_text
from distil_core.registry import ComponentOptions

_MAX_TEST_BYTES = 256 * 2**20


class Options(ComponentOptions):
    """None."""


def problem(row: Row) -> Problem:
    """There is no reference solution in these rows: the reference is empty."""
    tests = [
        {"input": required_string(test, "input"), "output": required_string(test, "output")}
        for field in ("public_test_cases", "private_test_cases")
        for test in _tests(row, field)
    ]
    if not tests:
        raise ValueError("no tests in 'public_test_cases' and 'private_test_cases'")
    starter = optional_text(row, "starter_code")
    prompt = required_text(row, "question_content")
    return code_problem(
        f"{prompt}\n\nBegin with:\n{starter}" if starter else prompt,
        "",
        question_id=row.get("question_id"),
        function=json.loads(optional_text(row, "metadata") or "{}").get("func_name"),
        tests=tests,
    )


def required_string(test: Any, name: str) -> str:
    """A field of a test, which may be empty text."""
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
    """Private tests are published as base64 of compressed pickled text."""
    inflater = zlib.decompressobj()
    content = inflater.decompress(base64.b64decode(text, validate=True), _MAX_TEST_BYTES)
    if inflater.unconsumed_tail:
        raise ValueError(f"more than {_MAX_TEST_BYTES / 2**20:.0f} MB of tests")
    found = _PlainUnpickler(io.BytesIO(content)).load()
    if not isinstance(found, str):
        raise ValueError(f"expected text, found {type(found).__name__}")
    return found


class _PlainUnpickler(pickle.Unpickler):
    """A pickle can name any function to be called: none may be named here."""

    def find_class(self, module_name: str, global_name: str, /) -> NoReturn:
        raise pickle.UnpicklingError(f"it names {module_name}.{global_name}, expected text only")


def build(options: Options) -> RowFormat:
    """The format, by name from the registry."""
    return problem
