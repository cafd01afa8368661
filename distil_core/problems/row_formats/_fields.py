"""Read the fields of rows with code tests."""

import ast
import builtins
import json
from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Any

from distil_core.problems._rows import required_text
from distil_core.problems.base import Problem
from distil_core.problems.row_formats import Row

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def optional_text(row: Row, field: str) -> str:
    """The field's text; '' where it is missing or null."""
    return "" if row.get(field) is None else required_text(row, field) if row[field] else ""


def text_list(row: Row, field: str) -> list[str]:
    """A field that must be a list of texts, with at least one."""
    value = row[field]
    if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
        raise ValueError(f"{field!r} must be a list of texts, at least one, found {value!r:.80}")
    return value


@dataclass(frozen=True)
class Uses:
    """What tests use of the solution they were written for. names: its functions, the first one
    called first, and its classes. data: code of the classes, and of the values that functions are
    called with (empty where the tests only call a class). imports: statements for the modules that
    tests name."""

    names: tuple[str, ...]
    data: str
    imports: str


def uses_of(codes: list[str], solution: str) -> Uses:
    """What the tests and their setup use. Raises `ValueError` where they use none of the solution's
    functions and classes, and `SyntaxError` for code that is not Python."""
    used = _names(map(ast.parse, codes))
    body = ast.parse(solution).body
    functions = {node.name for node in body if isinstance(node, _FUNCTIONS)}
    functions |= {name for name, node in _assigned(body) if isinstance(node.value, ast.Lambda)}
    classes = {node.name: node for node in body if isinstance(node, ast.ClassDef)}
    values = _plain_values(body, {*classes, *(name for node in body for name, _ in _imports(node))})
    called = [name for name in used if name in functions]
    held = [name for name in used if name in classes]
    if not called and not held:
        raise ValueError(
            f"the test {codes[0]!r:.80} calls none of the functions "
            f"{sorted(functions.union(classes))}"
        )
    data: dict[str, ast.stmt] = {**classes, **values}
    needed = _with_parts([name for name in used if name in data], data) if called else []
    return Uses(
        names=(*called, *held),
        data=_imports_of(_names(needed), body) + "".join(f"{ast.unparse(one)}\n" for one in needed),
        imports=_imports_of(used, body),
    )


def _names(nodes: Iterable[ast.AST]) -> dict[str, None]:
    """All names that the code uses without assigning them, in order."""
    walked = [node for root in nodes for node in ast.walk(root) if isinstance(node, ast.Name)]
    own = {node.id for node in walked if not isinstance(node.ctx, ast.Load)}
    return dict.fromkeys(node.id for node in walked if node.id not in own)


def _plain_values(body: list[ast.stmt], known: set[str]) -> dict[str, ast.stmt]:
    """Assigned names whose values do not need the solution's functions."""
    values: dict[str, ast.stmt] = {}
    for name, node in _assigned(body):
        is_function = isinstance(node.value, ast.Lambda)
        if not is_function and set(_names([node.value])) <= {*known, *values, *dir(builtins)}:
            values[name] = node
    return values


def _imports_of(names: Container[str], body: list[ast.stmt]) -> str:
    """The import statements that bind names used by the code."""
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


def _assigned(body: list[ast.stmt]) -> list[tuple[str, ast.Assign]]:
    """The names that a program assigns at its top level, with the statements."""
    return [
        (target.id, node)
        for node in body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    ]


def _with_parts(names: list[str], data: dict[str, ast.stmt]) -> list[ast.stmt]:
    """The statements and everything that they name in turn, in the solution's order."""
    wanted, waiting = set[str](), list(names)
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting += [inner for inner in _names([data[name]]) if inner in data]
    found = {id(data[name]): data[name] for name in wanted}
    return sorted(found.values(), key=lambda node: node.lineno)


def code_problem(prompt: str, reference: str, **metadata: Any) -> Problem:
    """A problem whose metadata holds tests."""
    return Problem(prompt, reference, json.dumps(metadata, sort_keys=True))
