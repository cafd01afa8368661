"""Verifier of code by assert-style tests, such as those of HumanEval and MBPP.

A problem's metadata, as JSON:

    {"entry_point": "add", "tests": [{"code": "assert add(1, 2) == 3", "public": true}]}

entry_point: the name that the tests call, or a list of names; the first is also `candidate`. code:
statements that fail by raising. setup: code that runs before the tests (imports, a `check`
function). preamble: code that runs before the response's own and before the tests' (imports,
helpers). stub: the beginning of a function at the end of the prompt, which responses may continue.
public: whether the prompt shows the test.

The tests run in their own sandbox, in which the program's functions, classes and objects are
proxies that ask the program's sandbox. Only data is exchanged: changes that the program makes to
its arguments are not seen, and a test that passes it a function cannot be run (an error, not a
wrong answer). A name that a test uses and nobody defines is an error too. The name of a standard
library module means that module; any other name is looked up in the program.

Each test has its own names beside those of setup and preamble. Public tests share one process of
the program and its objects; hidden tests share another.
"""

import ast
from dataclasses import replace

from pydantic import Field

from distil_core.errors import VerifierError
from distil_core.problems.base import Problem
from distil_core.sandbox import Call, CallResult, Sandbox
from distil_core.sandbox.answers import shorten, show
from distil_core.sandbox.relay import AssertCode, AssertProgram, TestReport, run_tests
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

_CODE_CHARACTERS = 300


class Options(CodeOptions):
    """Those of all code. limits hold for the tests' process too, and cpu_time_s for all calls of
    one test together."""


class AssertTest(Metadata):
    """Statements that raise where the program is wrong."""

    code: str
    public: bool = False


class AssertTests(Specification):
    """The metadata of one problem."""

    entry_point: str | tuple[str, ...]
    tests: tuple[AssertTest, ...] = Field(min_length=1)
    setup: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """All names that the tests call."""
        return (self.entry_point,) if isinstance(self.entry_point, str) else self.entry_point


class AssertTestsVerifier(CodeVerifier):
    """Malformed: no program in the response, or one that does not compile."""

    def __init__(self, options: Options, reveal: str):
        super().__init__(options, reveal)
        # Relayed calls are a little larger than the answers they hold.
        limits = options.limits.model_copy(update={"answer_kb": 2 * options.limits.answer_kb})
        self._test_sandbox = Sandbox(limits, options.isolation, options.packages)

    def close(self) -> None:
        super().close()
        self._test_sandbox.close()

    def read(self, problem: Problem) -> AssertTests:
        """The problem's metadata."""
        specification: AssertTests = read_tests(problem, AssertTests)
        require_python("the preamble", specification.preamble, problem)
        require_python("the tests' setup", specification.setup, problem)
        for test in specification.tests:
            require_python("a test", test.code, problem)
        return specification

    def judge(self, specification: Specification, program: Program) -> Judgement:
        """Run the tests. Raises `VerifierError` where the tests themselves are broken."""
        assert isinstance(specification, AssertTests)
        tests, limits = specification.tests, self.options.limits
        # The program gets the tests' imports too, as if both were in one module.
        preamble = "\n".join([specification.preamble, *_imports(specification.setup)])
        judged = AssertProgram(program.source, preamble, specification.names)
        outcomes: dict[int, TestOutcome] = {}
        reports: dict[int, TestReport] = {}
        for group in self.process_groups([test.public for test in tests]):
            code = AssertCode(
                specification.preamble, specification.setup, tuple(tests[i].code for i in group)
            )
            relayed = run_tests(self.sandbox, self._test_sandbox, judged, code)
            if failure := load_failure(relayed.program, limits, program.first_line):
                return failure
            if relayed.setup_failure is not None:
                outcomes |= self._all_failed(relayed.setup_failure, specification, group, program)
                continue
            if all(report.status == "not_run" for report in relayed.tests):
                text = ending_text(relayed.program.ending, limits, relayed.program.exit_code)
                return Judgement(failure=f"Loading the program: {text}")
            for index, report in zip(group, relayed.tests, strict=True):
                _refuse_broken(report, f"a test ({shorten(tests[index].code.strip(), 80)})")
                outcomes[index] = self._outcome(report, tests[index], program.first_line)
                reports[index] = report
        in_order = tuple(outcomes[index] for index in range(len(tests)))
        return Judgement(in_order, trace=self._trace(specification, program, reports, outcomes))

    def _all_failed(
        self, failure: TestReport, specification: AssertTests, group: list[int], program: Program
    ) -> dict[int, TestOutcome]:
        """All tests failed, as their setup, which may use the program, did not run through."""
        _refuse_broken(failure, "the tests' setup")
        setup = AssertTest(code="the tests' setup")
        failed = self._outcome(failure, setup, program.first_line)
        return {index: replace(failed, public=specification.tests[index].public) for index in group}

    def _outcome(self, report: TestReport, test: AssertTest, first_line: int) -> TestOutcome:
        if report.status == "passed":
            return TestOutcome(True, test.public)
        limits = self.options.limits
        lines = [shorten(test.code.strip(), _CODE_CHARACTERS)]
        if report.status == "program_ended" and report.calls:
            hidden = ending_text(report.calls[-1][1].status, limits)
        elif report.status == "not_run":
            hidden = ending_text("not_run", limits)
            lines.append(hidden)
        elif report.status == "test_ended":
            hidden = "the test did not finish with the program's answers"
            lines.append(hidden)
        else:
            hidden = _failed_as(report)
            if report.exception is not None:
                lines.append(_failure_text(report))
        lines += [
            f"  {call.written} {self._answered(answer, first_line)}"
            for call, answer in report.calls
        ]
        return TestOutcome(False, test.public, "\n".join(lines), hidden)

    def _answered(self, answer: CallResult, first_line: int) -> str:
        if answer.status == "returned":
            return f"returned {show(answer.encoded)}"
        if answer.exception is not None:
            return exception_text(answer.exception, self.options.limits, first_line)
        return ending_text(answer.status, self.options.limits)

    def _trace(
        self,
        specification: AssertTests,
        program: Program,
        reports: dict[int, TestReport],
        outcomes: dict[int, TestOutcome],
    ) -> tuple[str, ...]:
        """The trace of the last call of the first failing test that may be shown."""
        for index, report in sorted(reports.items()):
            failed = not outcomes[index].passed and self.may_show(outcomes[index].public)
            if failed and report.calls:
                last = report.calls[-1][0]
                if last.operation != "__call__":
                    return ()
                call = Call(last.label, last.arguments, last.keywords, is_encoded=True)
                return self.trace_of(program, specification.preamble, call, last.written)
        return ()


def _imports(setup: str) -> list[str]:
    """The import statements at the top level of code that `read` has parsed. An import that fails
    does so in the tests too, which then report it."""
    found = [
        node for node in ast.parse(setup).body if isinstance(node, (ast.Import, ast.ImportFrom))
    ]
    return [
        f"try:\n    {ast.unparse(node)}\nexcept ImportError:\n    pass"
        for node in found
        if getattr(node, "module", "") != "__future__"
    ]


def _refuse_broken(report: TestReport, where: str) -> None:
    """Raise `VerifierError` for a test that failed before it asked the program anything, or that
    uses a name that nobody defines: neither says anything about the program."""
    exception = report.exception
    if report.status == "unsupported":
        raise VerifierError(f"{where} hands the program {report.detail}")
    if report.undefined is not None:
        when = "" if report.num_calls else " without a call of the program"
        raise VerifierError(
            f"{where} raised NameError{when}: {report.undefined!r} is defined neither by the "
            "tests nor by the program"
        )
    if report.num_calls:
        return
    if report.status == "test_ended":
        raise VerifierError(f"{where} ended without a call of the program: {report.detail}")
    if report.status == "failed" and exception is not None:
        raise VerifierError(
            f"{where} raised {exception.type} without a call of the program: {exception.message}"
        )


def _failed_as(report: TestReport) -> str:
    """The kind of failure only: the class of the exception, the program's own where it raised
    one."""
    last = report.calls[-1][1] if report.calls else None
    if last is not None and last.exception is not None:
        return exception_kind(last.exception)
    return "wrong answer"


def _failure_text(report: TestReport) -> str:
    exception = report.exception
    if exception is None:
        return ""
    # The test's own line shows what was expected; for a `check` function, the assert that failed.
    line = exception.lines[-1][2] if exception.lines else ""
    message = f": {shorten(exception.message, 200)}" if exception.message else ""
    return f"  failed at `{line}` with {exception.type}{message}"


def build(options: Options, reveal: str) -> AssertTestsVerifier:
    """reveal: with 'expected_outputs' feedback tells about hidden tests what it tells about public
    ones."""
    return AssertTestsVerifier(options, reveal)
