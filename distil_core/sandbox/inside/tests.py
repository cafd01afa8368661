"""Assert-style tests, run in their own sandbox: the program under test is not in this process.

The program's functions, classes and objects are proxies here that ask the host, which asks the
program's sandbox. Only data comes back, and neither side can patch the other.
"""

import ast
import sys
from typing import Any

from .failures import describe_exception
from .frames import read_frame, write_frame
from .fresh_module import new_module
from .proxies import TESTS_MODULE, CandidateStopped, Program, Unsupported

TESTS_FILE = "<tests>"
SETUP_FILE = "<setup>"
PREAMBLE_FILE = "<preamble>"


class _Names(dict[str, Any]):
    """How names resolve that the tests do not define: Python's builtins first, then a standard
    library module (tests may rely on an import of the solution they were written for), then the
    program."""

    def __init__(self, builtins: dict[str, Any], program: Program):
        super().__init__(builtins)
        self._program = program

    def __missing__(self, name: str) -> Any:
        if name in sys.stdlib_module_names:
            return __import__(name)
        return self._program.look_up(name)


def run(job: dict[str, Any], channel: int) -> None:
    """Run each test of the job after preamble and setup, and report each as it ends."""

    def ask(request: dict[str, Any], label: str) -> dict[str, Any]:
        write_frame(channel, {"request": request, "label": label})
        answer: dict[str, Any] = read_frame(channel)
        if answer.get("stopped"):
            raise CandidateStopped
        return answer

    codes = [job["preamble"], job["source"], *job["tests"]]
    program = Program(ask, set(job["names"]).union(*map(_identifiers, codes)))
    names = new_module(TESTS_MODULE).__dict__
    names["__builtins__"] = _Names(names["__builtins__"].__dict__, program)
    stand_ins = {name: program.function(name) for name in job["names"]}
    failure: dict[str, Any] = {}
    for code, file in ((job["preamble"], PREAMBLE_FILE), (job["source"], SETUP_FILE)):
        names.update(stand_ins)
        failure = failure or _execute(code, file, names, program)
        if file == PREAMBLE_FILE:
            _leave_classes_to_the_program(names)
    write_frame(channel, {"setup": failure})
    names.update(stand_ins)
    if job["names"]:
        names.setdefault("candidate", names[job["names"][0]])
    for index, test in enumerate([] if failure else job["tests"]):
        write_frame(channel, {"begin": index})
        # Each test gets a copy of the names: what one defines does not exist in the next.
        write_frame(channel, {"test": index, **_execute(test, TESTS_FILE, dict(names), program)})


def _execute(code: str, file: str, names: dict[str, Any], program: Program) -> dict[str, Any]:
    """The outcome as a dictionary: empty where the code passed, else `exception` (with `undefined`,
    the name that nobody defines), `unsupported` or `stopped`."""
    try:
        exec(compile(code, file, "exec"), names)
    except CandidateStopped:
        return {"stopped": True}
    except Unsupported as error:
        return {"unsupported": str(error)}
    except BaseException as error:
        is_of_program = program.has_raised(error)
        # A name that the code itself defines is missing because the program stopped it before.
        missing = error.name if isinstance(error, NameError) else None
        is_undefined = type(error) is NameError and missing not in _bound(code)
        return {
            "exception": _described(error, file, code),
            "undefined": str(missing) if is_undefined and not is_of_program else None,
        }
    return {}


def _described(error: BaseException, file: str, code: str) -> dict[str, Any]:
    description = describe_exception(error, file)
    lines = code.splitlines()
    for frame in description["lines"]:
        if not frame[2] and 0 < frame[0] <= len(lines):
            frame[2] = lines[frame[0] - 1].strip()[:200]
    return description


def _leave_classes_to_the_program(names: dict[str, Any]) -> None:
    """Remove the preamble's classes from `names`: the preamble ran before the program too, and the
    program's objects are of the classes there."""
    for name, value in list(names.items()):
        if isinstance(value, type) and value.__module__ == TESTS_MODULE:
            del names[name]


def _nodes(code: str) -> list[ast.AST]:
    try:
        return list(ast.walk(ast.parse(code)))
    except (SyntaxError, ValueError, RecursionError):
        return []


def _identifiers(code: str) -> set[str]:
    return {node.id for node in _nodes(code) if isinstance(node, ast.Name)}


def _bound(code: str) -> set[str]:
    """Names that the code assigns or deletes anywhere."""
    nodes = [node for node in _nodes(code) if isinstance(node, ast.Name)]
    return {node.id for node in nodes if not isinstance(node.ctx, ast.Load)}
