"""A program for tests, written as a package of the user's own: sums, and accidents."""

import sys
from pathlib import Path

SUMS = '''
"""Adds: one line for the tens, one for the answer."""
import os
import time
from collections.abc import Mapping

from distil_core.errors import ExpertError
from distil_core.experts.programs.base import Program, ProgramOptions, Reply, Text
from distil_core.problems.base import Problem


class Options(ProgramOptions):
    """How it answers."""

    lead: str = ""
    """Stands before the sum."""
    log: str = ""
    """File that each call is written to."""
    how: str = "one"
    """What it does."""


class Sums:
    def __init__(self, options: Options):
        self.options = options

    def __call__(self, problem: Problem, so_far: str, feedback: Mapping[str, str]) -> Reply:
        if self.options.log:
            with open(self.options.log, "a") as file:
                file.write(f"{problem.prompt}{so_far!a}\\n")
        left, right = problem.prompt.rstrip("=").split("+")
        whole = f"{self.options.lead}{int(left) + int(right)}"
        # What is right so far is gone on with; a wrong beginning is put right by a new line.
        rest = whole[len(so_far):] if whole.startswith(so_far) else "\\n" + whole
        how = self.options.how
        if how == "mixture":
            return [(rest, 3), (f"x{rest}", 1.0)]
        if how == "uniform":
            return [rest, "y", Text("z", ends=False)]
        if how == "nothing":
            return None
        if how == "type":
            return [3]
        if how == "raise_after_7" and "7" in so_far:
            raise KeyError("seven")
        if how == "raise":
            raise KeyError("always")
        if how == "say_why":
            raise ExpertError("the calculator is not connected")
        if how == "hang_after_7" and "7" in so_far:
            time.sleep(1000)
        if how == "hang":
            time.sleep(1000)
        if how == "die_after_7" and "7" in so_far:
            os._exit(3)
        if how == "feedback":
            return feedback["execution_trace"]
        return rest


def build(options: Options) -> Program:
    if options.how == "no_build":
        raise ExpertError("no licence")
    return Sums(options)
'''


def write_lab(folder: Path) -> str:
    """Write the package into `folder`, which Python then looks in, and return the module's name."""
    package = folder / "programs_lab_of_tests"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "sums.py").write_text(SUMS)
    sys.path.insert(0, str(folder))
    return f"{package.name}.sums"
