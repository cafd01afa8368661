"""Verifier of whole programs by what they print for an input (LiveCodeBench, competitions).

A problem's metadata, as JSON:

    {"tests": [{"stdin": "3 4\\n", "stdout": "7\\n", "public": true}]}

Each test is a run of its own. A test passes when the program exits with 0 and its output is the
expected one by `comparison`. public: whether the prompt shows the test.
"""

from typing import Literal

from pydantic import Field

from distil_core.problems.base import Problem
from distil_core.registry import ComponentOptions
from distil_core.sandbox import ProgramResult
from distil_core.sandbox.answers import shorten
from distil_core.tools._code import (
    CodeOptions,
    CodeVerifier,
    Judgement,
    TestOutcome,
    ending_text,
    exception_kind,
    exception_text,
    read_tests,
)

_SHOWN_CHARACTERS = 200


class Options(CodeOptions):
    """comparison: 'lines' ignores white space at the ends of lines and of the output, 'tokens'
    any difference of white space, 'exact' nothing."""

    comparison: Literal["lines", "tokens", "exact"] = "lines"


class ProgramTest(ComponentOptions):
    """An input and the output it must give."""

    stdin: str
    stdout: str
    public: bool = False


class ProgramTests(ComponentOptions):
    """The metadata of one problem."""

    tests: tuple[ProgramTest, ...] = Field(min_length=1)


class StdinProgramsVerifier(CodeVerifier):
    """Malformed: no program in the response, or one that does not compile."""

    def __init__(self, options: Options, reveal: str):
        super().__init__(options, reveal)
        self._comparison = options.comparison

    def judge(self, problem: Problem, code: str) -> Judgement:
        """One run of the program a test."""
        specification: ProgramTests = read_tests(problem, ProgramTests)
        outcomes = []
        for test in specification.tests:
            result = self.sandbox.run_program(code, stdin=test.stdin)
            if not result.compiled:
                return self._malformed(result, test)
            outcomes.append(self._outcome(result, test))
        return Judgement(tuple(outcomes), trace=self._trace(code, specification.tests, outcomes))

    def _malformed(self, result: ProgramResult, test: ProgramTest) -> Judgement:
        """Its message comes from a process that has read the input, hidden or not."""
        text = "The program is no Python"
        if result.exception is not None and self.may_show(test.public):
            text += f": it {exception_text(result.exception, self.options.limits)}"
        return Judgement(malformed=text)

    def _outcome(self, result: ProgramResult, test: ProgramTest) -> TestOutcome:
        limits = self.options.limits
        given = f"with input {_quoted(test.stdin)} the program"
        if result.exception is not None:
            text = exception_text(result.exception, limits)
            kind = exception_kind(result.exception)
            return TestOutcome(False, test.public, f"{given} {text}", kind)
        if result.ending != "exited" or result.exit_code:
            text = ending_text(result.ending, limits, result.exit_code)
            hidden = text
            if result.ending == "exited" and result.exit_code and result.exit_code > 0:
                # The code itself could tell of the hidden input.
                text, hidden = f"exited with code {result.exit_code}", "exited with a failure"
            return TestOutcome(False, test.public, f"{given} {text}", hidden)
        printed = result.stdout.decode("utf-8", "surrogateescape")
        if _compared(printed, self._comparison) == _compared(test.stdout, self._comparison):
            return TestOutcome(True, test.public)
        text = f"{given} printed {_quoted(printed)}, expected {_quoted(test.stdout)}"
        return TestOutcome(False, test.public, text, "wrong output")

    def _trace(
        self, code: str, tests: tuple[ProgramTest, ...], outcomes: list[TestOutcome]
    ) -> tuple[str, ...]:
        """The execution of the first failing test that may be shown, run once more for it."""
        num_lines = self.options.trace_lines
        for test, outcome in zip(tests, outcomes, strict=True):
            if num_lines and not outcome.passed and self.may_show(test.public):
                lines = self.sandbox.run_program(code, test.stdin, num_lines).trace
                return (f"input {_quoted(test.stdin)}:", *lines) if lines else ()
        return ()


def _compared(text: str, comparison: str) -> str | list[str]:
    if comparison == "exact":
        return text
    if comparison == "tokens":
        return text.split()
    return [line.rstrip() for line in text.rstrip().split("\n")]


def _quoted(text: str) -> str:
    # Feedback goes into a table as UTF-8, which has no place for bytes that are none.
    readable = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return repr(shorten(readable, _SHOWN_CHARACTERS))


def build(options: Options, reveal: str) -> StdinProgramsVerifier:
    """reveal: with 'expected_outputs' feedback tells of hidden tests what it tells of public."""
    return StdinProgramsVerifier(options, reveal)
