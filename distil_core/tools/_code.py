"""What verifiers of code share: settings, the program in a response, verdicts, feedback."""

import builtins
import json
import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import NonNegativeInt, PositiveInt, TypeAdapter, ValidationError

from distil_core.errors import SandboxError, VerifierError
from distil_core.problems.base import Problem
from distil_core.registry import ComponentOptions, describe
from distil_core.sandbox import (
    Call,
    CandidateException,
    Isolation,
    Limits,
    ProgramResult,
    Sandbox,
)
from distil_core.sandbox.answers import shorten, show
from distil_core.sandbox.inside.values import encode
from distil_core.tools.base import FeedbackItem, Verdict, Verification, Verifier

_FENCE = re.compile(r"[ \t]*(?P<fence>`{3,}|~{3,})[ \t]*(?P<label>[\w+-]*)(?P<rest>.*)", re.DOTALL)
_PYTHON_LABELS = ("", "python", "py", "python3")


class CodeOptions(ComponentOptions):
    """reward: 1 only when all tests pass, or the share that passes. extraction: where the program
    is: in the last fenced block of Python, or the whole response, or the one if there is a fence
    and else the other. trace_lines: of the execution trace of the first failing test that may be
    shown; 0 for none. max_tests_shown: failing tests that feedback tells of, one by one.
    """

    limits: Limits = Limits()
    isolation: Isolation = "bubblewrap_zygote"
    reward: Literal["all", "fraction"] = "all"
    extraction: Literal["fenced", "plain", "either"] = "either"
    trace_lines: NonNegativeInt = 16
    max_tests_shown: PositiveInt = 5


@dataclass(frozen=True)
class TestOutcome:
    """One test's verdict. shown: what feedback says where it may tell all; hidden: where only the
    kind of failure is told (never inputs, answers or messages)."""

    __test__ = False

    passed: bool
    public: bool
    shown: str = ""
    hidden: str = ""


@dataclass(frozen=True)
class Judgement:
    """malformed: why the program is none; outcomes: of every test; failure: of the program as a
    whole, before any test. trace: lines of the execution of a test that may be shown."""

    outcomes: tuple[TestOutcome, ...] = ()
    malformed: str = ""
    failure: str = ""
    trace: tuple[str, ...] = ()


def extract_code(response: str, extraction: str) -> str | None:
    """The program in a response; None where the response is malformed: no Python block where one
    is required, or a fence that is never closed."""
    blocks, closed = _fenced_blocks(response)
    python = [code for label, code in blocks if label.lower() in _PYTHON_LABELS]
    if extraction != "plain" and python:
        return python[-1]
    if extraction == "fenced" or (extraction == "either" and (blocks or not closed)):
        return None
    return response if response.strip() else None


def _fenced_blocks(text: str) -> tuple[list[tuple[str, str]], bool]:
    """Label and content of each closed block, and whether all blocks are closed. By CommonMark,
    a block ends at a line of nothing but a fence at least as long as the one that opened it."""
    blocks: list[tuple[str, str]] = []
    opening: re.Match[str] | None = None
    lines: list[str] = []
    for line in text.splitlines(keepends=True):
        fence = _FENCE.match(line)
        if opening is None:
            if fence is not None and "`" not in fence["rest"]:
                opening, lines = fence, []
        elif (
            fence is not None
            and fence["fence"].startswith(opening["fence"])
            and not (fence["label"] or fence["rest"].strip())
        ):
            blocks.append((opening["label"], "".join(lines)))
            opening = None
        else:
            lines.append(line)
    return blocks, opening is None


class CodeVerifier(Verifier):
    """Malformed: no program in the response, or text that does not compile as Python. A program
    that fails in any other way is wrong, and a sandbox that fails is neither."""

    def __init__(self, options: CodeOptions, reveal: str):
        self.options = options
        self.reveals = reveal == "expected_outputs"
        self.isolation = options.isolation
        self.sandbox = Sandbox(options.limits, options.isolation)

    @abstractmethod
    def judge(self, problem: Problem, code: str) -> Judgement:
        """Run the problem's tests on the program."""

    def verify(self, problem: Problem, response: str) -> Verification:
        """Raises `SandboxError` where the isolation is missing, and `VerifierError` when it
        failed on this program or the problem's tests are no tests."""
        code = extract_code(response, self.options.extraction)
        if code is None:
            wanted = "a fenced block of Python" if "```" in response else "a program"
            return _verification(Judgement(malformed=f"The response holds no {wanted}."), self)
        self.sandbox.ensure_ready()
        try:
            judgement = self.judge(problem, code)
        except SandboxError as error:
            raise VerifierError(f"problem {problem.problem_id}: {error}") from error
        return _verification(judgement, self, ran=True)

    def may_show(self, public: bool) -> bool:
        """Whether feedback may hold a test's input and expected output."""
        return public or self.reveals

    def trace_of(self, program: str, call: Call) -> tuple[str, ...]:
        """The execution of a call that may be shown, run once more for it."""
        if not self.options.trace_lines:
            return ()
        result = self.sandbox.run_calls(program, [call], self.options.trace_lines)
        lines = result.calls[0].trace
        return (f"{written_call(call)}:", *lines) if lines else ()

    def close(self) -> None:
        self.sandbox.close()


def _verification(judgement: Judgement, verifier: CodeVerifier, ran: bool = False) -> Verification:
    options = verifier.options
    outcomes = judgement.outcomes
    num_passed = sum(outcome.passed for outcome in outcomes)
    all_passed = bool(outcomes) and num_passed == len(outcomes)
    verdict: Verdict = "correct" if all_passed else "wrong"
    if judgement.malformed:
        verdict, text = "malformed", judgement.malformed
    elif judgement.failure:
        text = judgement.failure
    else:
        text = "\n".join(_report(outcomes, num_passed, verifier))
    feedback = [FeedbackItem("tool_output", text)]
    if judgement.trace:
        feedback.insert(0, FeedbackItem("execution_trace", "\n".join(judgement.trace)))
    share = num_passed / len(outcomes) if outcomes else 0.0
    return Verification(
        reward=share if options.reward == "fraction" else float(all_passed),
        verdict=verdict,
        feedback=tuple(feedback),
        isolation=verifier.isolation if ran else None,
    )


def _report(outcomes: Sequence[TestOutcome], num_passed: int, verifier: CodeVerifier) -> list[str]:
    lines = [f"{num_passed} of {len(outcomes)} tests passed."]
    numbered = enumerate(outcomes, 1)
    failing = [(number, outcome) for number, outcome in numbered if not outcome.passed]
    # What can be told in full comes first: it says most.
    failing.sort(key=lambda item: not verifier.may_show(item[1].public))
    for number, outcome in failing[: verifier.options.max_tests_shown]:
        shown = verifier.may_show(outcome.public)
        text = outcome.shown if shown else outcome.hidden
        lines.append(f"test {number}{'' if shown else ' (hidden)'}: {text}")
    more = len(failing) - verifier.options.max_tests_shown
    return [*lines, f"{more} more failed."] if more > 0 else lines


def ending_text(ending: str, limits: Limits, exit_code: int | None = None) -> str:
    """Why the program's process is no more, in words. Holds nothing of the tests."""
    texts = {
        "cpu_timeout": f"timed out: more than {limits.cpu_time_s:g} s of CPU time",
        "wall_timeout": f"timed out: no answer within {limits.wall_time_s:g} s",
        "output_limit": f"printed more than {limits.output_kb} KB",
        "answer_limit": f"answered more than {limits.answer_kb} KB",
        "violation": "broke off the conversation with its tests",
        "not_run": "not run: an earlier test ended the program",
    }
    if ending != "exited":
        return texts[ending]
    if exit_code is not None and exit_code < 0:
        return f"crashed (signal {-exit_code})"
    return "ended without an answer"


def exception_text(exception: CandidateException, limits: Limits, first_line: int = 0) -> str:
    """Class, message and the program's own lines. first_line: lines before the response's own,
    whose numbers are then counted from there."""
    memory = f" (limit {limits.memory_mb} MB)" if exception.type == "MemoryError" else ""
    message = f": {shorten(exception.message, 200)}" if exception.message else ""
    frames = [
        f"\n  line {line - first_line}, in {function}: {source}"
        for line, function, source in exception.lines
        if line > first_line
    ]
    return f"raised {exception.type}{message}{memory}{''.join(frames[-4:])}"


def exception_kind(exception: CandidateException) -> str:
    """The class alone, if it is one of Python's own: a program can name a class after the hidden
    input that it was given."""
    known = getattr(builtins, exception.type, None)
    is_known = isinstance(known, type) and issubclass(known, BaseException)
    return f"raised {exception.type if is_known else 'an exception of its own'}"


def load_failure(result: ProgramResult, limits: Limits, first_line: int) -> Judgement | None:
    """The judgement of a program that did not load, or None if it did."""
    if result.exception is not None:
        text = exception_text(result.exception, limits, first_line)
        if not result.compiled:
            return Judgement(malformed=f"The program is no Python: it {text}")
        return Judgement(failure=f"Loading the program {text}")
    return None


def written_call(call: Call) -> str:
    """The call as Python would write it, shortened."""
    arguments = [show(encode(value)) for value in call.arguments]
    keywords = [f"{name}={show(encode(value))}" for name, value in call.keywords.items()]
    return f"{call.function}({', '.join([*arguments, *keywords])})"


def read_tests(problem: Problem, kind: Any) -> Any:
    """The problem's metadata as `kind`, a pydantic model. Raises `VerifierError`."""
    try:
        return TypeAdapter(kind).validate_python(json.loads(problem.metadata))
    except ValidationError as error:
        raise VerifierError(
            f"the metadata of problem {problem.problem_id} are no tests: {describe(error)}"
        ) from error
    except ValueError as error:
        raise VerifierError(
            f"the metadata of problem {problem.problem_id} are no JSON: {error}"
        ) from error
