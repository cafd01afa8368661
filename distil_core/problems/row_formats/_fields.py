"""Reading the fields of a row of code tests."""

import ast
import json
from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Any

from distil_core.problems._rows import required_text
from distil_core.problems.base import Problem
from distil_core.problems.row_formats import Row

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def optional_text(row: Row, field: str) -> str:
    """The field's text, or none where it is missing or null."""
    return "" if row.get(field) is None else required_text(row, field) if row[field] else ""


def text_list(row: Row, field: str) -> list[str]:
    """A field that must be a list of texts, at least one."""
    value = row[field]
    if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
        raise ValueError(f"{field!r} must be a list of texts, at least one, found {value!r:.80}")
    return value


@dataclass(frozen=True)
class Uses:
    """What tests use of the solution they were written for. names: functions, and classes where
    they call no function, the first called first; classes: code of those that hold what the
    functions are called with; imports: statements that bring the modules that tests name."""

    names: tuple[str, ...]
    classes: str
    imports: str


def uses_of(codes: list[str], solution: str) -> Uses:
    """Of tests and their setup, the tests first. Raises `ValueError` where they use none of the
    solution's functions and classes, and `SyntaxError` for what is no Python."""
    used = _names(map(ast.parse, codes))
    body = ast.parse(solution).body
    functions = {node.name for node in body if isinstance(node, _FUNCTIONS)}
    classes = {node.name: node for node in body if isinstance(node, ast.ClassDef)}
    called = [name for name in used if name in functions]
    held = [name for name in used if name in classes]
    if not called and not held:
        raise ValueError(
            f"the test {codes[0]!r:.80} calls none of the functions "
            f"{sorted(functions.union(classes))}"
        )
    needed = _with_bases(held, classes) if called else []
    return Uses(
        names=(*called, *held),
        classes=_imports_of(_names(needed), body)
        + "".join(f"{ast.unparse(one)}\n" for one in needed),
        imports=_imports_of(used, body),
    )


def _names(nodes: Iterable[ast.AST]) -> dict[str, None]:
    """All names in the code, in order."""
    walked = (node for root in nodes for node in ast.walk(root))
    return dict.fromkeys(node.id for node in walked if isinstance(node, ast.Name))


def _imports_of(names: Container[str], body: list[ast.stmt]) -> str:
    """Statements that bind those of the names that the code imports."""
    found = [binding for node in body for binding in _imports(node)]
    return "".join(f"{text}\n" for name, text in found if name in names)


def _imports(node: ast.stmt) -> list[tuple[str, str]]:
    """The name that each part of an import statement binds, with that part as a statement."""
    if isinstance(node, ast.Import):
        return [
            ((one.asname or one.name).partition(".")[0], ast.unparse(ast.Import([one])))
            for one in node.names
        ]
    if isinstance(node, ast.ImportFrom) and node.module != "__future__":
        return [
            (one.asname or one.name, ast.unparse(ast.ImportFrom(node.module, [one], node.level)))
            for one in node.names
        ]
    return []


def _with_bases(names: list[str], classes: dict[str, ast.ClassDef]) -> list[ast.ClassDef]:
    """The classes and all that they name in their turn, in the solution's order."""
    wanted, waiting = set[str](), list(names)
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting += [inner for inner in _names([classes[name]]) if inner in classes]
    return [node for name, node in classes.items() if name in wanted]


def code_problem(prompt: str, reference: str, **metadata: Any) -> Problem:
    """A problem whose metadata holds tests."""
    return Problem(prompt, reference, json.dumps(metadata, sort_keys=True))
