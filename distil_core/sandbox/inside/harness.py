"""In the child: load the program, answer calls, run tests, execute cells.

The program runs in the same process and can change it, so the host does not trust what is sent.
"""

import atexit
import io
import linecache
import os
import sys
import threading
import types
from collections.abc import Callable
from typing import Any, NoReturn

from . import cells, tests
from .failures import describe_exception
from .frames import STDIN_FILE, read_frame, write_frame
from .fresh_module import new_module
from .object_table import ObjectTable
from .trace import Tracer
from .values import HEAD_ROOM, decode, dump, encode

CHANNEL = 3
PROGRAM_FILE = "<program>"
PREAMBLE_FILE = "<preamble>"


def serve(answer_bytes: int) -> NoReturn:
    """Report that the child is ready, take one job, do it, exit."""
    write_frame(CHANNEL, {"ready": True})
    job = read_frame(CHANNEL)
    # Opened anew, so that the program does not inherit the state of the zygote's streams.
    sys.stdin = _text(0, "r")
    sys.stdout = _text(1, "w")
    sys.stderr = _text(2, "w")
    # numpy's threads would take memory from the program. `os.environ` stays empty.
    os.putenv("OPENBLAS_NUM_THREADS", "1")
    # Numbers of any length may be written; the time for it is limited anyway.
    sys.set_int_max_str_digits(0)
    if job["mode"] == "program":
        _run_program(job)
    elif job["mode"] == "calls":
        _answer_calls(job, answer_bytes)
    elif job["mode"] == "cells":
        cells.run(CHANNEL, _flush)
    else:
        tests.run(job, CHANNEL)
    # Every answer is sent; the program's threads and exit handlers would only take time.
    _flush()
    os._exit(0)


def _text(descriptor: int, mode: str) -> io.TextIOWrapper:
    binary: Any = io.FileIO(descriptor, mode, closefd=False)
    buffered = io.BufferedReader(binary) if mode == "r" else io.BufferedWriter(binary)
    return io.TextIOWrapper(buffered, encoding="utf-8", errors="surrogateescape")


class NotPythonError(Exception):
    """The source does not compile; the cause says why."""


def _compiled(source: str) -> types.CodeType:
    try:
        return compile(source, PROGRAM_FILE, "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise NotPythonError from error


def _not_python(error: NotPythonError) -> dict[str, Any]:
    cause = error.__cause__ or error
    return {"exception": describe_exception(cause, PROGRAM_FILE), "compiled": False}


def _program_module(name: str, job: dict[str, Any]) -> types.ModuleType:
    """A module for the program, in which the preamble has run; traces know its source lines. The
    host is told how the preamble ended before a line of the program runs."""
    source = job["source"]
    lines = source.splitlines(keepends=True)
    linecache.cache[PROGRAM_FILE] = (len(source), None, lines, PROGRAM_FILE)
    module = new_module(name)
    try:
        exec(compile(job["preamble"], PREAMBLE_FILE, "exec"), module.__dict__)
    except BaseException as error:
        _send({"prepared": False, "exception": describe_exception(error, PREAMBLE_FILE)})
        os._exit(1)
    _send({"prepared": True})
    return module


def _run_program(job: dict[str, Any]) -> None:
    sys.argv = ["program.py"]
    if "/dev/stdin" in job["source"]:
        _write_stdin_file()
    module = _program_module("__main__", job)
    tracer = Tracer(PROGRAM_FILE, job["trace_lines"], lambda lines: _send({"trace": lines}))
    code = 0
    try:
        with tracer:
            exec(_compiled(job["source"]), module.__dict__)
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


def _write_stdin_file() -> None:
    """Write standard input to a file for programs that open /dev/stdin by name: that name leads
    through /proc, which is missing here."""
    if os.path.islink("/dev/stdin") and os.readlink("/dev/stdin") == STDIN_FILE:
        size = os.fstat(0).st_size
        with open(STDIN_FILE, "wb") as file:
            file.write(os.pread(0, size, 0))


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


def _answer_calls(job: dict[str, Any], answer_bytes: int) -> None:
    module = _program_module("solution", job)
    objects = ObjectTable(module.__dict__)
    loaded: dict[str, Any] = {"loaded": True}
    try:
        exec(_compiled(job["source"]), module.__dict__)
    except NotPythonError as error:
        loaded = _not_python(error)
    except BaseException as error:
        loaded = {"exception": describe_exception(error, PROGRAM_FILE)}
    _send(loaded)
    while True:
        request = read_frame(CHANNEL)
        if request.get("finish"):
            return
        answer = _answer(module, objects, request)
        if len(dump(answer)) > answer_bytes - HEAD_ROOM:
            answer = {"too_large": True}
        _send({"sequence": request["sequence"], **answer})


def _answer(
    module: types.ModuleType, objects: ObjectTable, request: dict[str, Any]
) -> dict[str, Any]:
    """The answer to a call by the host, or to what tests ask about the program and its objects."""
    try:
        if "look_up" in request:
            return objects.look_up(request["look_up"])
        if "operation" in request:
            return _operate(objects, request)
        function = _find(module, request["function"])
        arguments, keywords = decode(request["arguments"]), decode(request["keywords"])
        tracer = Tracer(PROGRAM_FILE, request["trace_lines"], lambda lines: _send({"trace": lines}))
        with tracer:
            value = function(*arguments, **keywords)
        return {"value": encode(value)}
    except BaseException as error:
        return {"exception": describe_exception(error, PROGRAM_FILE)}


def _operate(objects: ObjectTable, request: dict[str, Any]) -> dict[str, Any]:
    try:
        return objects.operate(request)
    except BaseException as error:
        description = describe_exception(error, PROGRAM_FILE)
        return {"exception": description, "raised": objects.raised(error)}


def _find(module: types.ModuleType, path: str) -> Callable[..., Any]:
    """The function called `path`: a name, or `Class.method` on a new object for each call. Where
    there is no such class, the function `method`, as the graders of programming contests do it."""
    owner, _, method = path.partition(".")
    if owner not in module.__dict__ and isinstance(module.__dict__.get(method), types.FunctionType):
        return module.__dict__[method]
    if owner not in module.__dict__:
        raise NameError(f"the program defines no {owner!r}")
    found = module.__dict__[owner]
    if method:
        found = getattr(found() if isinstance(found, type) else found, method)
    return found
