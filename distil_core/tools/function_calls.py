"""Verifier of code by calls of a function: arguments in, a value out (LiveCodeBench, MBPP).

A problem's metadata, as JSON:

    {"entry_point": "add", "tests": [{"arguments": "(1, 2)", "expected": "3", "public": true}]}

entry_point: a function, or `Class.method` of a new object. arguments (with `keywords`, a dict, if
there are any) and expected are Python literals as text, compared with exact types; with
`"values": "json"` they are JSON itself, which has no tuples, so that a returned tuple counts as a
list. public: whether the prompt shows the test. preamble: code before the response's own.
"""

import ast
from typing import Any, Literal

from pydantic import Field

from distil_core.errors import VerifierError
from distil_core.problems.base import Problem
from distil_core.registry import ComponentOptions
from distil_core.sandbox import Call, CallResult, ProgramResult
from distil_core.sandbox.answers import matches, show
from distil_core.sandbox.inside.values import encode
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

# A test that ends the program's process costs the tests after it nothing, this often.
_MAX_RESTARTS = 2


class Options(CodeOptions):
    """Those of all code."""


class CallTest(ComponentOptions):
    """One call and what it must return."""

    arguments: Any
    keywords: Any = None
    expected: Any
    public: bool = False


class CallTests(ComponentOptions):
    """The metadata of one problem."""

    entry_point: str
    tests: tuple[CallTest, ...] = Field(min_length=1)
    values: Literal["python", "json"] = "python"
    preamble: str = ""


class FunctionCallsVerifier(CodeVerifier):
    """Malformed: no program in the response, or one that does not compile."""

    def judge(self, problem: Problem, code: str) -> Judgement:
        """One call at a time, each answer compared here."""
        specification: CallTests = read_tests(problem, CallTests)
        preamble = specification.preamble and specification.preamble.rstrip("\n") + "\n"
        first_line = preamble.count("\n")
        try:
            calls = [_call(specification, test) for test in specification.tests]
            expected = [_value(specification, test.expected) for test in specification.tests]
        except (ValueError, SyntaxError, TypeError) as error:
            raise VerifierError(
                f"a test of problem {problem.problem_id} is no literal: {error}"
            ) from error
        program = preamble + code
        result, results = self._run(program, calls)
        if failure := load_failure(result, self.options.limits, first_line):
            return failure
        as_json = specification.values == "json"
        outcomes = tuple(
            self._outcome(call, answer, value, test.public, as_json, first_line)
            for call, answer, value, test in zip(
                calls, results, expected, specification.tests, strict=True
            )
        )
        trace = self._trace(program, calls, outcomes)
        return Judgement(outcomes, trace=trace)

    def _run(self, program: str, calls: list[Call]) -> tuple[ProgramResult, list[CallResult]]:
        """All calls; where one ends the process, the rest in another one."""
        results: list[CallResult] = []
        for _ in range(_MAX_RESTARTS + 1):
            result = self.sandbox.run_calls(program, calls[len(results) :])
            results += [answer for answer in result.calls if answer.status != "not_run"]
            if len(results) == len(calls) or not result.calls or result.exception:
                break
            if result.calls[0].status == "not_run":
                # It ended while it loaded.
                results.append(CallResult(result.ending))
                break
        missing = len(calls) - len(results)
        return result, results + [CallResult("not_run")] * missing

    def _outcome(
        self,
        call: Call,
        answer: CallResult,
        expected: Any,
        public: bool,
        as_json: bool,
        first_line: int,
    ) -> TestOutcome:
        limits = self.options.limits
        written = written_call(call)
        if answer.status == "returned":
            if matches(expected, answer.encoded, tuples_are_lists=as_json):
                return TestOutcome(True, public)
            wanted = show(encode(expected))
            text = f"{written} returned {show(answer.encoded)}, expected {wanted}"
            return TestOutcome(False, public, text, "wrong answer")
        if answer.exception is not None:
            text = exception_text(answer.exception, limits, first_line)
            return TestOutcome(False, public, f"{written} {text}", exception_kind(answer.exception))
        text = ending_text(answer.status, limits)
        return TestOutcome(False, public, f"{written} {text}", text)

    def _trace(
        self, program: str, calls: list[Call], outcomes: tuple[TestOutcome, ...]
    ) -> tuple[str, ...]:
        for call, outcome in zip(calls, outcomes, strict=True):
            if not outcome.passed and self.may_show(outcome.public):
                return self.trace_of(program, call)
        return ()


def _call(specification: CallTests, test: CallTest) -> Call:
    arguments = _value(specification, test.arguments)
    keywords = _value(specification, test.keywords) if test.keywords is not None else {}
    if type(arguments) not in (list, tuple) or type(keywords) is not dict:
        raise TypeError(f"arguments must be a list or tuple: {test.arguments!r}")
    return Call(specification.entry_point, tuple(arguments), keywords)


def _value(specification: CallTests, written: Any) -> Any:
    return ast.literal_eval(written) if specification.values == "python" else written


def build(options: Options, reveal: str) -> FunctionCallsVerifier:
    """reveal: with 'expected_outputs' feedback tells of hidden tests what it tells of public."""
    return FunctionCallsVerifier(options, reveal)
