"""Copied into a scratch copy of the code as a verifier: each response says what befalls it.

Every call is a line of `calls.log`, written before anything happens.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from distil_core.errors import VerifierError
from distil_core.problems.base import Problem
from distil_core.verifiers.base import FeedbackItem, Verification, Verifier, VerifierOptions


class Options(VerifierOptions):
    """build: what befalls the building of the verifier, or 'bounded', what it then says it is."""

    build: str = ""


class SilentError(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


class OddError(Exception):
    """One that does not survive the way between processes."""

    def __init__(self, one: str, two: str):
        super().__init__(f"{one} {two}")


GIVEN: dict[str, Any] = {
    "nothing": None,
    "reward": Verification(float("nan"), "correct", ()),
    "verdict": Verification(1.0, "fine", ()),  # type: ignore[arg-type]
    "feedback": Verification(1.0, "correct", ("text",)),  # type: ignore[arg-type]
}


class ScriptedVerifier(Verifier):
    def __init__(self, is_bounded: bool):
        self.is_bounded = is_bounded

    def verify(self, problem: Problem, response: str) -> Verification:
        with Path("calls.log").open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()} {response}\n")
        what, _, argument = response.partition(" ")
        befall(what, argument)
        if what == "give":
            return GIVEN[argument]
        correct = response.endswith(problem.reference)
        feedback = FeedbackItem("tool_output", f"saw {response}")
        return Verification(float(correct), "correct" if correct else "wrong", (feedback,))


def befall(what: str, argument: str = "") -> None:
    if what == "sleep":
        time.sleep(float(argument))
    elif what == "hold":
        # Sleeps in C with the interpreter's lock held: no thread or signal handler gets through.
        ctypes.PyDLL(None).sleep(1000)
    elif what == "die" or (what == "die_once" and not Path(argument).exists()):
        if argument:
            Path(argument).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "exit":
        os._exit(int(argument))
    elif what == "error":
        raise VerifierError(argument)
    elif what == "defect":
        raise TypeError(argument)
    elif what == "defect_exit":
        sys.exit(argument)
    elif what == "defect_silent":
        raise SilentError
    elif what == "defect_odd":
        raise OddError("far", "away")
    elif what == "child":
        subprocess.Popen(["sleep", "1000"])


def build(options: Options, reveal: str) -> ScriptedVerifier:
    befall(*options.build.split(" ")[:2]) if options.build else None
    return ScriptedVerifier(options.build == "bounded")
