"""Verifier of code by assert-style tests, such as those of HumanEval and MBPP.

A problem's metadata, as JSON:

    {"entry_point": "add", "tests": [{"code": "assert add(1, 2) == 3", "public": true}]}

entry_point: the function the tests call, or a list of them; the first is also `candidate`. code:
statements that fail by raising. setup: code of the tests, run once before them (imports, a
`check` function). preamble: code before the response's own. public: whether the prompt shows the
test.

The tests run in a sandbox of their own, where each entry point is a stand-in that asks the
program's sandbox. Only plain data crosses: changes that the program makes to its arguments are
not seen, and a test that hands it a function cannot be run (an error, not a wrong answer).
"""

from pydantic import Field

from distil_core.errors import VerifierError
from distil_core.problems.base import Problem
from distil_core.registry import ComponentOptions
from distil_core.sandbox import CallResult, Sandbox
from distil_core.sandbox.answers import shorten, show
from distil_core.sandbox.relay import TestReport, run_tests
from distil_core.tools._code import (
    CodeOptions,
    CodeVerifier,
    Judgement,
    TestOutcome,
    ending_text,
    exception_kind,
    exception_text,
    load_failure,
    read_tests,
    written_call,
)

_CODE_CHARACTERS = 300


class Options(CodeOptions):
    """Those of all code. limits hold for the tests' process too, and cpu_time_s for all calls of
    one test together."""


class AssertTest(ComponentOptions):
    """Statements that raise where the program is wrong."""

    code: str
    public: bool = False


class AssertTests(ComponentOptions):
    """The metadata of one problem."""

    entry_point: str | tuple[str, ...]
    tests: tuple[AssertTest, ...] = Field(min_length=1)
    setup: str = ""
    preamble: str = ""


class AssertTestsVerifier(CodeVerifier):
    """Malformed: no program in the response, or one that does not compile."""

    def __init__(self, options: Options, reveal: str):
        super().__init__(options, reveal)
        # Relayed calls are a little larger than the answers they hold.
        limits = options.limits.model_copy(update={"answer_kb": 2 * options.limits.answer_kb})
        self._test_sandbox = Sandbox(limits, options.isolation)

    def close(self) -> None:
        super().close()
        self._test_sandbox.close()

    def judge(self, problem: Problem, code: str) -> Judgement:
        """Raises `VerifierError` where it is the tests that are broken."""
        specification: AssertTests = read_tests(problem, AssertTests)
        names = specification.entry_point
        preamble = specification.preamble and specification.preamble.rstrip("\n") + "\n"
        first_line = preamble.count("\n")
        relayed = run_tests(
            self.sandbox,
            self._test_sandbox,
            preamble + code,
            [names] if isinstance(names, str) else names,
            specification.setup,
            [test.code for test in specification.tests],
        )
        if relayed.setup_failure is not None:
            text = exception_text(relayed.setup_failure, self.options.limits)
            raise VerifierError(f"the tests' setup of problem {problem.problem_id} {text}")
        program = relayed.program
        if program is None:
            raise VerifierError(f"problem {problem.problem_id}: the run has no result")
        if failure := load_failure(program, self.options.limits, first_line):
            return failure
        if not relayed.tests:
            text = ending_text(program.ending, self.options.limits, program.exit_code)
            return Judgement(failure=f"Loading the program: {text}")
        for report, test in zip(relayed.tests, specification.tests, strict=True):
            _refuse_broken(report, test, problem)
        outcomes = tuple(
            self._outcome(report, test, first_line)
            for report, test in zip(relayed.tests, specification.tests, strict=True)
        )
        trace = self._trace(preamble + code, relayed.tests, outcomes)
        return Judgement(outcomes, trace=trace)

    def _outcome(self, report: TestReport, test: AssertTest, first_line: int) -> TestOutcome:
        if report.status == "passed":
            return TestOutcome(True, test.public)
        limits = self.options.limits
        told = [shorten(test.code.strip(), _CODE_CHARACTERS)]
        if report.status == "program_ended" and report.calls:
            hidden = ending_text(report.calls[-1][1].status, limits)
        elif report.status == "not_run":
            hidden = ending_text("not_run", limits)
            told.append(hidden)
        elif report.status == "test_ended":
            hidden = "the test did not finish with the program's answers"
            told.append(hidden)
        else:
            hidden = _failed_as(report)
            if report.exception is not None:
                told.append(_failure_text(report))
        told += [
            f"  {written_call(call)} {self._answered(answer, first_line)}"
            for call, answer in report.calls
        ]
        return TestOutcome(False, test.public, "\n".join(told), hidden)

    def _answered(self, answer: CallResult, first_line: int) -> str:
        if answer.status == "returned":
            return f"returned {show(answer.encoded)}"
        if answer.exception is not None:
            return exception_text(answer.exception, self.options.limits, first_line)
        return ending_text(answer.status, self.options.limits)

    def _trace(
        self, program: str, reports: tuple[TestReport, ...], outcomes: tuple[TestOutcome, ...]
    ) -> tuple[str, ...]:
        for report, outcome in zip(reports, outcomes, strict=True):
            if not outcome.passed and self.may_show(outcome.public) and report.calls:
                return self.trace_of(program, report.calls[-1][0])
        return ()


def _refuse_broken(report: TestReport, test: AssertTest, problem: Problem) -> None:
    """A test that fails before it asked the program anything says nothing about it."""
    where = f"a test of problem {problem.problem_id} ({shorten(test.code.strip(), 80)})"
    if report.status == "unsupported":
        raise VerifierError(f"{where} hands the program {report.detail}")
    if report.num_calls:
        return
    if report.status == "test_ended":
        raise VerifierError(f"{where} ended without a call of the program: {report.detail}")
    if report.status == "failed" and report.exception is not None:
        raise VerifierError(
            f"{where} raised {report.exception.type} without a call of the program: "
            f"{report.exception.message}"
        )


def _failed_as(report: TestReport) -> str:
    """The kind of failure alone: the exception's class, of the program where it raised one."""
    last = report.calls[-1][1] if report.calls else None
    if last is not None and last.exception is not None:
        return exception_kind(last.exception)
    return "wrong answer"


def _failure_text(report: TestReport) -> str:
    exception = report.exception
    if exception is None:
        return ""
    # The test's own line says what was expected: of a `check` function, the assert that failed.
    line = exception.lines[-1][2] if exception.lines else ""
    message = f": {shorten(exception.message, 200)}" if exception.message else ""
    return f"  failed at `{line}` with {exception.type}{message}"


def build(options: Options, reveal: str) -> AssertTestsVerifier:
    """reveal: with 'expected_outputs' feedback tells of hidden tests what it tells of public."""
    return AssertTestsVerifier(options, reveal)
