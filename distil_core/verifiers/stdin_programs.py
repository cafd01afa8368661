"""Verifier of whole programs by what they print for an input (LiveCodeBench, competitions).

A problem's metadata, as JSON:

    {"tests": [{"stdin": "3 4\\n", "stdout": "7\\n", "public": true}]}

Each test is a run of its own. A test passes when the program exits with 0 and its output is the
expected one by `comparison`. public: whether the prompt shows the test. preamble: code that runs
before the response's own, such as the imports of a contest's grader.
"""

from typing import Literal

from pydantic import Field

from distil_core.problems.base import Problem
from distil_core.sandbox import ProgramResult
from distil_core.sandbox.answers import shorten
from distil_core.verifiers._code import (
    CodeOptions,
    CodeVerifier,
    Judgement,
    Metadata,
    Program,
    Specification,
    TestOutcome,
    ending_text,
    exception_kind,
    exception_text,
    load_failure,
    read_tests,
    require_python,
)
from distil_core.verifiers._printed_output import same_output

_SHOWN_CHARACTERS = 200


class Options(CodeOptions):
    """Programs that read standard input and print an answer."""

    comparison: Literal["lines", "tokens", "exact"] = "lines"
    """'lines' ignores white space at the ends of lines and of the output, 'tokens' any difference
    of white space, and both the ways to write a number and its last digits (see `same_numbers`);
    'exact' ignores nothing."""


class ProgramTest(Metadata):
    """An input and the output expected for it."""

    stdin: str
    stdout: str
    public: bool = False


class ProgramTests(Specification):
    """The metadata of one problem."""

    tests: tuple[ProgramTest, ...] = Field(min_length=1)


class StdinProgramsVerifier(CodeVerifier):
    """Malformed: no program in the response, or one that does not compile."""

    def __init__(self, options: Options, reveal: str):
        super().__init__(options, reveal)
        self._comparison = options.comparison

    def read(self, problem: Problem) -> ProgramTests:
        """The metadata."""
        specification: ProgramTests = read_tests(problem, ProgramTests)
        require_python("the preamble", specification.preamble, problem)
        return specification

    def judge(self, specification: Specification, program: Program) -> Judgement:
        """Run the program once for each test."""
        assert isinstance(specification, ProgramTests)
        outcomes = []
        for test in specification.tests:
            result = self._run(specification, test, program)
            if result.preamble_exception is not None or not result.compiled:
                return self._malformed(result, test)
            outcomes.append(self._outcome(result, test))
        return Judgement(tuple(outcomes), trace=self._trace(specification, program, outcomes))

    def _run(
        self, specification: ProgramTests, test: ProgramTest, program: Program, trace_lines: int = 0
    ) -> ProgramResult:
        # With an expected output beyond the limit no program could be right.
        expected_kb = 2 * len(test.stdout.encode("utf-8", "surrogatepass")) // 1024
        output_kb = max(self.options.limits.output_kb, expected_kb)
        return self.sandbox.run_program(
            program.source, test.stdin, trace_lines, specification.preamble, output_kb
        )

    def _malformed(self, result: ProgramResult, test: ProgramTest) -> Judgement:
        """Feedback without the program's own message, which comes from a process that has read the
        input, hidden or not."""
        if result.preamble_exception is not None:
            load_failure(result, self.options.limits, 0)
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
                # The exit code itself could reveal the hidden input.
                text, hidden = f"exited with code {result.exit_code}", "exited with a failure"
            return TestOutcome(False, test.public, f"{given} {text}", hidden)
        printed = result.stdout.decode("utf-8", "surrogateescape")
        if same_output(printed, test.stdout, self._comparison):
            return TestOutcome(True, test.public)
        text = f"{given} printed {_quoted(printed)}, expected {_quoted(test.stdout)}"
        return TestOutcome(False, test.public, text, "wrong output")

    def _trace(
        self, specification: ProgramTests, program: Program, outcomes: list[TestOutcome]
    ) -> tuple[str, ...]:
        """The execution of the first failing test that may be shown, run once more for it."""
        num_lines = self.options.trace_lines
        for test, outcome in zip(specification.tests, outcomes, strict=True):
            if num_lines and not outcome.passed and self.may_show(test.public):
                lines = self._run(specification, test, program, num_lines).trace
                return (f"input {_quoted(test.stdin)}:", *lines) if lines else ()
        return ()


def _quoted(text: str) -> str:
    # Feedback is stored as UTF-8, so other bytes are replaced.
    readable = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return repr(shorten(readable, _SHOWN_CHARACTERS))


def build(options: Options, reveal: str) -> StdinProgramsVerifier:
    """reveal: with 'expected_outputs' feedback tells about hidden tests what it tells about public
    ones."""
    return StdinProgramsVerifier(options, reveal)
