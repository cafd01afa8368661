"""In the child: load the program, answer calls, run tests. It shares its process with the program,
so the host believes nothing of what it says except that it said it."""

import atexit
import io
import linecache
import os
import sys
import threading
import types
from collections.abc import Callable
from typing import Any, NoReturn

from . import tests
from .failures import describe_exception
from .frames import read_frame, write_frame
from .fresh_module import new_module
from .trace import Tracer
from .values import HEAD_ROOM, decode, dump, encode

CHANNEL = 3
PROGRAM_FILE = "<program>"


def serve(answer_bytes: int) -> NoReturn:
    """Say that the box is ready, take one job, do it, exit."""
    write_frame(CHANNEL, {"ready": True})
    job = read_frame(CHANNEL)
    # Opened anew: whatever state the zygote's own had is not the program's.
    sys.stdin = _text(0, "r")
    sys.stdout = _text(1, "w")
    sys.stderr = _text(2, "w")
    source = job["source"]
    if job["mode"] == "program":
        _run_program(source, job["trace_lines"])
    elif job["mode"] == "calls":
        _answer_calls(source, answer_bytes)
    else:
        tests.run(job, CHANNEL)
    # Every answer is given: threads and exit handlers of the program would only cost time.
    _flush()
    os._exit(0)


def _text(descriptor: int, mode: str) -> io.TextIOWrapper:
    binary: Any = io.FileIO(descriptor, mode, closefd=False)
    buffered = io.BufferedReader(binary) if mode == "r" else io.BufferedWriter(binary)
    return io.TextIOWrapper(buffered, encoding="utf-8", errors="surrogateescape")


class NotPythonError(Exception):
    """The source does not compile, because of its cause."""


def _compiled(source: str) -> types.CodeType:
    try:
        return compile(source, PROGRAM_FILE, "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise NotPythonError from error


def _not_python(error: NotPythonError) -> dict[str, Any]:
    cause = error.__cause__ or error
    return {"exception": describe_exception(cause, PROGRAM_FILE), "compiled": False}


def _program_module(name: str, source: str) -> types.ModuleType:
    """A module for the program to run in, its lines known to traces."""
    lines = source.splitlines(keepends=True)
    linecache.cache[PROGRAM_FILE] = (len(source), None, lines, PROGRAM_FILE)
    return new_module(name)


def _run_program(source: str, trace_lines: int) -> None:
    sys.argv = ["program.py"]
    module = _program_module("__main__", source)
    tracer = Tracer(PROGRAM_FILE, trace_lines, lambda lines: _send({"trace": lines}))
    code = 0
    try:
        with tracer:
            exec(_compiled(source), module.__dict__)
            threading._shutdown()  # type: ignore[attr-defined]
    except SystemExit as stop:
        code = _exit_code(stop)
    except NotPythonError as error:
        _send(_not_python(error))
        code = 1
    except BaseException as error:
        _send({"exception": describe_exception(error, PROGRAM_FILE)})
        code = 1
    _exit(code)


def _exit_code(stop: SystemExit) -> int:
    if stop.code is None or type(stop.code) is int:
        return (stop.code or 0) & 0xFF
    print(stop.code, file=sys.stderr)
    return 1


def _exit(code: int) -> NoReturn:
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        _flush()
    except BaseException:
        code = code or 1
    os._exit(code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()


def _send(tree: Any) -> None:
    write_frame(CHANNEL, tree)


def _answer_calls(source: str, answer_bytes: int) -> None:
    module = _program_module("solution", source)
    loaded: dict[str, Any] = {"loaded": True}
    try:
        exec(_compiled(source), module.__dict__)
    except NotPythonError as error:
        loaded = _not_python(error)
    except BaseException as error:
        loaded = {"exception": describe_exception(error, PROGRAM_FILE)}
    _send(loaded)
    while True:
        request = read_frame(CHANNEL)
        if request.get("finish"):
            return
        _send({"sequence": request["sequence"], **_answer(module, request, answer_bytes)})


def _answer(module: types.ModuleType, request: dict[str, Any], answer_bytes: int) -> dict[str, Any]:
    tracer = Tracer(PROGRAM_FILE, request["trace_lines"], lambda lines: _send({"trace": lines}))
    try:
        function = _find(module, request["function"])
        arguments, keywords = decode(request["arguments"]), decode(request["keywords"])
        with tracer:
            value = function(*arguments, **keywords)
        encoded = encode(value)
        if len(dump(encoded)) > answer_bytes - HEAD_ROOM:
            return {"too_large": True}
        return {"value": encoded}
    except BaseException as error:
        return {"exception": describe_exception(error, PROGRAM_FILE)}


def _find(module: types.ModuleType, path: str) -> Callable[..., Any]:
    """`name`, or `Class.method`, whose object is made anew for each call."""
    owner, _, method = path.partition(".")
    if owner not in module.__dict__:
        raise NameError(f"the program defines no {owner!r}")
    found = module.__dict__[owner]
    if method:
        found = getattr(found() if isinstance(found, type) else found, method)
    return found
