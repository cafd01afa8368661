"""Verifier of code by calls of a function: arguments in, a value out (LiveCodeBench, MBPP).

A problem's metadata, as JSON:

    {"entry_point": "add", "tests": [{"arguments": "(1, 2)", "expected": "3", "public": true}]}

entry_point: a function, or `Class.method` on a new object. arguments (with `keywords`, a dict, if
needed) and expected are Python literals as text, compared with exact types. With `"values": "json"`
they are JSON, which has no tuples, so that a returned tuple counts as a list and 2.0 as 2. public:
whether the prompt shows the test. preamble: code that runs before the response's own. Public tests
are calls in one process, one after another; hidden tests are calls in another.
"""

import ast
from typing import Any, Literal

from pydantic import Field

from distil_core.errors import VerifierError
from distil_core.problems.base import Problem
from distil_core.sandbox import Call, CallResult, ProgramResult
from distil_core.sandbox.answers import matches, show
from distil_core.sandbox.inside.values import encode
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
    written_call,
)

# How often the program is started again after a test that ended its process.
_MAX_RESTARTS = 2


class Options(CodeOptions):
    """Those of all code."""


class CallTest(Metadata):
    """One call and the value it must return."""

    arguments: Any
    keywords: Any = None
    expected: Any
    public: bool = False


class CallTests(Specification):
    """The metadata of one problem."""

    entry_point: str
    tests: tuple[CallTest, ...] = Field(min_length=1)
    values: Literal["python", "json"] = "python"

    @property
    def names(self) -> tuple[str, ...]:
        """The function, or the class of the method."""
        return (self.entry_point.partition(".")[0],)


class FunctionCallsVerifier(CodeVerifier):
    """Malformed: no program in the response, or one that does not compile."""

    def read(self, problem: Problem) -> CallTests:
        """The metadata, with Python literals evaluated."""
        specification: CallTests = read_tests(problem, CallTests)
        require_python("the preamble", specification.preamble, problem)
        try:
            tests = tuple(_with_values(specification, test) for test in specification.tests)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
            raise VerifierError(
                f"a test of problem {problem.problem_id} is no literal: {error}"
            ) from error
        return specification.model_copy(update={"tests": tests})

    def judge(self, specification: Specification, program: Program) -> Judgement:
        """Make one call at a time and compare each answer here."""
        assert isinstance(specification, CallTests)
        tests = specification.tests
        outcomes: dict[int, TestOutcome] = {}
        for group in self.process_groups([test.public for test in tests]):
            calls = [_call(specification, tests[index]) for index in group]
            result, answers = self._run(specification, program, calls)
            if failure := load_failure(result, self.options.limits, program.first_line):
                return failure
            for index, call, answer in zip(group, calls, answers, strict=True):
                outcomes[index] = self._outcome(
                    specification, call, answer, tests[index], program.first_line
                )
        in_order = tuple(outcomes[index] for index in range(len(tests)))
        return Judgement(in_order, trace=self._trace(specification, program, in_order))

    def _run(
        self, specification: CallTests, program: Program, calls: list[Call]
    ) -> tuple[ProgramResult, list[CallResult]]:
        """Make all calls. Where one ends the process, the rest are made in another. The result is
        that of the first process."""
        results: list[CallResult] = []
        first: ProgramResult | None = None
        for _ in range(_MAX_RESTARTS + 1):
            result = self.sandbox.run_calls(
                program.source, calls[len(results) :], preamble=specification.preamble
            )
            first = first or result
            results += [answer for answer in result.calls if answer.status != "not_run"]
            if len(results) == len(calls) or not result.calls or result.exception:
                break
            if result.calls[0].status == "not_run":
                # It ended while it loaded.
                results.append(CallResult(result.ending))
                break
        missing = len(calls) - len(results)
        assert first is not None, "there is at least one try"
        return first, results + [CallResult("not_run")] * missing

    def _outcome(
        self,
        specification: CallTests,
        call: Call,
        answer: CallResult,
        test: CallTest,
        first_line: int,
    ) -> TestOutcome:
        limits, public = self.options.limits, test.public
        written = written_call(call)
        if answer.status == "returned":
            as_json = specification.values == "json"
            if matches(test.expected, answer.encoded, as_json, as_json):
                return TestOutcome(True, public)
            wanted = show(encode(test.expected))
            text = f"{written} returned {show(answer.encoded)}, expected {wanted}"
            return TestOutcome(False, public, text, "wrong answer")
        if answer.exception is not None:
            text = exception_text(answer.exception, limits, first_line)
            return TestOutcome(False, public, f"{written} {text}", exception_kind(answer.exception))
        text = ending_text(answer.status, limits)
        return TestOutcome(False, public, f"{written} {text}", text)

    def _trace(
        self, specification: CallTests, program: Program, outcomes: tuple[TestOutcome, ...]
    ) -> tuple[str, ...]:
        """The execution of a call that may be shown, run once more for it."""
        for test, outcome in zip(specification.tests, outcomes, strict=True):
            if not outcome.passed and self.may_show(test.public):
                call = _call(specification, test)
                return self.trace_of(program, specification.preamble, call, written_call(call))
        return ()


def _with_values(specification: CallTests, test: CallTest) -> CallTest:
    arguments = _value(specification, test.arguments)
    keywords = _value(specification, test.keywords) if test.keywords is not None else {}
    if type(arguments) not in (list, tuple) or type(keywords) is not dict:
        raise TypeError(f"arguments must be a list or tuple: {test.arguments!r:.80}")
    expected = _value(specification, test.expected)
    return test.model_copy(
        update={"arguments": tuple(arguments), "keywords": keywords, "expected": expected}
    )


def _call(specification: CallTests, test: CallTest) -> Call:
    return Call(specification.entry_point, test.arguments, test.keywords)


def _value(specification: CallTests, written: Any) -> Any:
    return ast.literal_eval(written) if specification.values == "python" else written


def build(options: Options, reveal: str) -> FunctionCallsVerifier:
    """reveal: with 'expected_outputs' feedback tells about hidden tests what it tells about public
    ones."""
    return FunctionCallsVerifier(options, reveal)
