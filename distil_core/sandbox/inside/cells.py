"""In the child: execute one piece of source after another in one module, as a notebook does."""

import ast
import linecache
import types
from collections.abc import Callable
from typing import Any

from .failures import describe_exception
from .frames import read_frame, write_frame
from .fresh_module import new_module

_VALUE_CHARACTERS = 20_000


def run(channel: int, flush: Callable[[], None]) -> None:
    """Execute cells until told to finish. A cell's answer comes after all that it printed."""
    module = new_module("__main__")
    write_frame(channel, {"loaded": True})
    number = 0
    while True:
        request = read_frame(channel)
        if request.get("finish"):
            return
        number += 1
        answer = _execute(request["cell"], f"<cell {number}>", module)
        try:
            flush()
        except BaseException as error:
            answer.setdefault("exception", describe_exception(error, f"<cell {number}>"))
        write_frame(channel, {"sequence": request["sequence"], **answer})


def _execute(source: str, file: str, module: types.ModuleType) -> dict[str, Any]:
    lines = source.splitlines(keepends=True)
    linecache.cache[file] = (len(source), None, lines, file)
    try:
        statements, last = _compiled(source, file)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return {"exception": describe_exception(error, file), "compiled": False}
    try:
        exec(statements, module.__dict__)
        value = None if last is None else eval(last, module.__dict__)
        return {"value": None if value is None else _shown(value)}
    except BaseException as error:
        return {"exception": describe_exception(error, file)}


def _compiled(source: str, file: str) -> tuple[types.CodeType, types.CodeType | None]:
    """The cell's statements, and its last one apart where that is an expression."""
    tree = ast.parse(source, file)
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = compile(ast.Expression(tree.body.pop().value), file, "eval")  # type: ignore[attr-defined]
    return compile(tree, file, "exec"), last


def _shown(value: Any) -> str:
    text = repr(value)
    if len(text) > _VALUE_CHARACTERS:
        half = _VALUE_CHARACTERS // 2
        text = f"{text[:half]} .. {text[-half:]}"
    return text
