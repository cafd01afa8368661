"""Assert-style tests, in a sandbox of their own: the program under test is not in this process.

Its functions are stand-ins that ask the host, which asks the program's sandbox. So only plain data
comes back, and neither side can patch the other.
"""

import builtins
from collections.abc import Callable
from typing import Any

from .failures import describe_exception
from .frames import read_frame, write_frame
from .fresh_module import new_module
from .values import NotPlainDataError, decode, encode

TESTS_FILE = "<tests>"
SETUP_FILE = "<setup>"


class CandidateStopped(BaseException):
    """The program can answer no more: no test may catch this."""


class CandidateError(Exception):
    """The program raised an exception of a class of its own, or returned no plain data."""


class Unsupported(BaseException):
    """The test hands the program what cannot cross (a function, an object)."""


def run(job: dict[str, Any], channel: int) -> None:
    """Run each test of the job in one namespace; report each as it ends."""
    names = new_module("tests").__dict__
    try:
        exec(compile(job["source"], SETUP_FILE, "exec"), names)
    except BaseException as error:
        write_frame(channel, {"setup": describe_exception(error, SETUP_FILE)})
        return
    write_frame(channel, {"setup": None})
    for name in job["names"]:
        names[name] = _stand_in(name, channel)
    if job["names"]:
        names.setdefault("candidate", names[job["names"][0]])
    for index, test in enumerate(job["tests"]):
        write_frame(channel, {"begin": index})
        report: dict[str, Any] = {"test": index, "exception": None}
        try:
            exec(compile(test, TESTS_FILE, "exec"), names)
        except CandidateStopped:
            pass  # The host left the call unanswered, so it knows.
        except Unsupported as error:
            report["unsupported"] = str(error)
        except BaseException as error:
            report["exception"] = _describe(error, test)
        write_frame(channel, report)


def _describe(error: BaseException, test: str) -> dict[str, Any]:
    description = describe_exception(error, TESTS_FILE)
    lines = test.splitlines()
    for frame in description["lines"]:
        if not frame[2] and 0 < frame[0] <= len(lines):
            frame[2] = lines[frame[0] - 1].strip()[:200]
    return description


def _stand_in(name: str, channel: int) -> Callable[..., Any]:
    def candidate(*arguments: Any, **keywords: Any) -> Any:
        request = {"function": name, "arguments": encode(arguments), "keywords": encode(keywords)}
        try:
            decode([request["arguments"], request["keywords"]])
        except NotPlainDataError as error:
            raise Unsupported(str(error)) from None
        write_frame(channel, {"call": request})
        answer = read_frame(channel)
        if "value" in answer:
            try:
                return decode(answer["value"])
            except NotPlainDataError as error:
                raise CandidateError(f"it returned {error}") from None
        if "raised" in answer:
            raise _exception(answer["raised"]["type"])(answer["raised"]["message"])
        raise CandidateStopped

    candidate.__name__ = name
    return candidate


def _exception(name: str) -> type[Exception]:
    """The builtin exception of this name, if its constructor takes just a message."""
    found = getattr(builtins, name, None)
    if isinstance(found, type) and issubclass(found, Exception):
        try:
            found("message")
        except TypeError:
            return CandidateError
        return found
    return CandidateError
