"""Reading the fields of a row of code tests."""

import ast
import json
from typing import Any

from distil_core.problems._rows import required_text
from distil_core.problems.base import Problem
from distil_core.problems.row_formats import Row


def optional_text(row: Row, field: str) -> str:
    """The field's text, or none where it is missing or null."""
    return "" if row.get(field) is None else required_text(row, field) if row[field] else ""


def text_list(row: Row, field: str) -> list[str]:
    """A field that must be a list of texts, at least one."""
    value = row[field]
    if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
        raise ValueError(f"{field!r} must be a list of texts, at least one, found {value!r:.80}")
    return value


def called_function(test: str, source: str) -> str:
    """The function of `source` that the test calls; `ValueError` where there is none."""
    defined = {
        node.name
        for node in ast.parse(source).body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }
    for node in ast.walk(ast.parse(test)):
        if isinstance(node, ast.Name) and node.id in defined:
            return node.id
    raise ValueError(f"the test {test!r:.80} calls none of the functions {sorted(defined)}")


def code_problem(prompt: str, reference: str, **metadata: Any) -> Problem:
    """A problem whose metadata holds tests."""
    return Problem(prompt, reference, json.dumps(metadata, sort_keys=True))
