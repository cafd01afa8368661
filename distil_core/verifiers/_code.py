"""What the verifiers of code share: settings, the program in a response, verdicts, feedback."""

import ast
import builtins
import json
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    NonNegativeInt,
    PositiveInt,
    TypeAdapter,
    ValidationError,
)

from distil_core.errors import SandboxError, VerifierError
from distil_core.problems.base import Problem
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
from distil_core.validation import describe
from distil_core.verifiers._program_text import READS_AND_WRITES, completions, defines, extract_code
from distil_core.verifiers._reasoning import without_reasoning
from distil_core.verifiers.base import (
    FeedbackItem,
    Verdict,
    Verification,
    Verifier,
    VerifierOptions,
)


class CodeOptions(VerifierOptions):
    """What verifiers of code share."""

    limits: Limits = Limits()
    """Of one program."""
    isolation: Isolation = "bubblewrap_zygote"
    """How programs are kept apart from the host. rlimits_only is NO isolation."""
    reward: Literal["all", "fraction"] = "all"
    """1 only when all tests pass, or the share that passes."""
    extraction: Literal["fenced", "plain", "either"] = "either"
    """Where the program is: in a fenced block of Python, or the whole response, or the one if there
    is a fence and else the other."""
    packages: tuple[str, ...] = ("numpy",)
    """What else than the standard library programs and tests may import, where it is installed."""
    trace_lines: NonNegativeInt = 16
    """Of the execution trace of the first failing test that may be shown; 0 for none."""
    max_tests_shown: PositiveInt = 5
    """Failing tests that feedback tells of, one by one."""

    @property
    def runs_code_under(self) -> Isolation:
        """As set."""
        return self.isolation


class Metadata(BaseModel):
    """Base of the models for problems' metadata. Metadata are data, read less strictly than
    settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Specification(Metadata):
    """A problem's metadata, apart from its tests. preamble: code that runs before the response's
    own. stub: the beginning of a function at the end of the prompt, which responses may
    continue."""

    preamble: str = ""
    stub: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The top-level names that a program must define; empty where it only has to run."""
        return ()


@dataclass(frozen=True)
class Program:
    """The program in a response. first_line: how many lines precede the response's own."""

    source: str
    first_line: int = 0


@dataclass(frozen=True)
class TestOutcome:
    """The verdict on one test. shown: feedback where everything may be told. hidden: feedback that
    gives only the kind of failure (never inputs, answers or messages)."""

    __test__ = False

    passed: bool
    public: bool
    shown: str = ""
    hidden: str = ""


@dataclass(frozen=True)
class Judgement:
    """malformed: why the response has no valid program. outcomes: one for each test. failure: why
    the program failed before any test. trace: executed lines of a test that may be shown."""

    outcomes: tuple[TestOutcome, ...] = ()
    malformed: str = ""
    failure: str = ""
    trace: tuple[str, ...] = ()


class CodeVerifier(Verifier):
    """Malformed: the response has no program, or text that does not compile as Python. A program
    that fails in any other way is wrong. A failing sandbox gives neither verdict."""

    def __init__(self, options: CodeOptions, reveal: str):
        self.options = options
        self.reveals = reveal == "expected_outputs"
        self.isolation = options.isolation
        self.sandbox = Sandbox(options.limits, options.isolation, options.packages)

    @abstractmethod
    def read(self, problem: Problem) -> Specification:
        """The problem's tests, checked. Raises `VerifierError` where the metadata hold no valid
        tests."""

    @abstractmethod
    def judge(self, specification: Specification, program: Program) -> Judgement:
        """Run the tests on the program. Raises `VerifierError` where the tests themselves are
        broken."""

    def verify(self, problem: Problem, response: str) -> Verification:
        """Judge the response's program. Raises `SandboxError` where the isolation is missing, and
        `VerifierError` when the sandbox failed on this program or the problem's tests are
        invalid."""
        specification = self.read(problem)
        names = specification.names
        wanted = (defines(names),) if names else READS_AND_WRITES
        answer = without_reasoning(response)
        code = extract_code(answer, self.options.extraction, wanted)
        if code is None:
            missing = "fenced block of Python" if "```" in answer else "program"
            return _verification(Judgement(malformed=f"The response holds no {missing}."), self)
        self.sandbox.ensure_ready()
        try:
            judgement = self._judge_likeliest(specification, code)
        except (SandboxError, VerifierError) as error:
            raise VerifierError(f"problem {problem.problem_id}: {error}") from error
        return _verification(judgement, self, ran=True)

    def _judge_likeliest(self, specification: Specification, code: str) -> Judgement:
        """Judge the first of the response's possible programs that is valid."""
        first: Judgement | None = None
        for source, first_line in completions(code, specification.stub, specification.names):
            judgement = self.judge(specification, Program(source, first_line))
            if not judgement.malformed:
                return judgement
            first = first or judgement
        assert first is not None, "the response itself is one"
        return first

    def check_problem(self, problem: Problem) -> None:
        """Raises `VerifierError` where the metadata hold no valid tests."""
        self.read(problem)

    def may_show(self, public: bool) -> bool:
        """Whether feedback may hold a test's input and expected output."""
        return public or self.reveals

    def process_groups(self, are_public: Sequence[bool]) -> list[list[int]]:
        """The indices of the tests, grouped by those that may share one process of the program.
        Public and hidden tests are kept apart, as the answer to a public test is shown in feedback
        and must not reveal what a hidden test passed in."""
        shown = [self.may_show(is_public) for is_public in are_public]
        groups = [
            [i for i, is_shown in enumerate(shown) if is_shown is kind] for kind in (True, False)
        ]
        return [group for group in groups if group]

    def trace_of(
        self, program: Program, preamble: str, call: Call, written: str
    ) -> tuple[str, ...]:
        """The executed lines of one call that may be shown, from another run of it."""
        if not self.options.trace_lines:
            return ()
        num_lines = self.options.trace_lines
        result = self.sandbox.run_calls(program.source, [call], num_lines, preamble)
        lines = result.calls[0].trace
        return (f"{written}:", *lines) if lines else ()

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
    # Failures that may be described in full come first, as they say most.
    failing.sort(key=lambda item: not verifier.may_show(item[1].public))
    for number, outcome in failing[: verifier.options.max_tests_shown]:
        shown = verifier.may_show(outcome.public)
        text = outcome.shown if shown else outcome.hidden
        lines.append(f"test {number}{'' if shown else ' (hidden)'}: {text}")
    more = len(failing) - verifier.options.max_tests_shown
    return [*lines, f"{more} more failed."] if more > 0 else lines


def ending_text(ending: str, limits: Limits, exit_code: int | None = None) -> str:
    """Why the program's process ended, in words. Reveals nothing about the tests."""
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
    """Class, message and the program's own lines. first_line: how many lines precede the response's
    own; line numbers are counted from there."""
    memory = f" (limit {limits.memory_mb} MB)" if exception.type == "MemoryError" else ""
    message = f": {shorten(exception.message, 200)}" if exception.message else ""
    frames = [
        f"\n  line {line - first_line}, in {function}: {source}"
        for line, function, source in exception.lines
        if line > first_line
    ]
    return f"raised {exception.type}{message}{memory}{''.join(frames[-4:])}"


def exception_kind(exception: CandidateException) -> str:
    """The exception's class only, and only if it is a builtin: a program could name a class after
    the hidden input that it was given."""
    known = getattr(builtins, exception.type, None)
    is_known = isinstance(known, type) and issubclass(known, BaseException)
    return f"raised {exception.type if is_known else 'an exception of its own'}"


def load_failure(result: ProgramResult, limits: Limits, first_line: int) -> Judgement | None:
    """The judgement of a program that did not load; None if it did. Raises `VerifierError` where
    the code before the program failed."""
    if result.preamble_exception is not None:
        text = exception_text(result.preamble_exception, limits)
        raise VerifierError(f"the code before the response {text}")
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
    """The problem's metadata as a `kind`. Raises `VerifierError`."""
    try:
        return TypeAdapter(kind).validate_python(json.loads(problem.metadata))
    except ValidationError as error:
        raise VerifierError(
            f"the metadata of problem {problem.problem_id} are no tests: {describe(error, kind)}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise VerifierError(
            f"the metadata of problem {problem.problem_id} are no JSON: {error}"
        ) from error


def require_python(what: str, code: str, problem: Problem) -> None:
    """Raise `VerifierError` where code of the problem is not valid Python."""
    try:
        ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise VerifierError(
            f"{what} of problem {problem.problem_id} is no Python "
            f"({type(error).__name__}: {error}): {shorten(code.strip(), 80)}"
        ) from error
