"""Assert-style tests: their code runs in one sandbox and asks the program in another.

The host passes each call on in encoded form and never builds the objects, so that neither a lying
object nor a patched builtin, in the program or in a test, can reach it.
"""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from distil_core.sandbox._child import Child, ProcessEnded
from distil_core.sandbox._process_report import read_exception
from distil_core.sandbox.answers import show
from distil_core.sandbox.results import CallResult, CandidateException, ProgramResult
from distil_core.sandbox.sandbox import Sandbox, Session

_MAX_CALLS_OF_A_TEST = 20_000
_MAX_CALLS_KEPT = 5
_MAX_ANSWERS_OF_A_TEST = 16
"""In answers of the largest size: what the host reads and writes of one test."""
_MAX_RESTARTS = 2
_LABEL_CHARACTERS = 60


@dataclass(frozen=True)
class AssertProgram:
    """A program to be tested. preamble: code that runs before it. names: what the tests call; the
    first is also known as `candidate`."""

    source: str
    preamble: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class AssertCode:
    """The tests, each a block of statements. preamble: code that runs before the program and before
    the tests; setup: code that runs before the tests only."""

    preamble: str
    setup: str
    tests: tuple[str, ...]


@dataclass(frozen=True)
class RelayedCall:
    """A call that a test made to the program: the name used in the test, and the encoded
    arguments."""

    label: str
    operation: str
    arguments: list[Any]
    keywords: dict[str, Any]

    @property
    def written(self) -> str:
        """The call as Python would write it, shortened."""
        given = [show(value) for value in self.arguments]
        named = self.keywords.get("d", [])
        given += [f"{name}={show(value)}" for name, value in named]
        if self.operation == "__call__":
            return f"{self.label}({', '.join(given)})"
        return f"{self.operation.strip('_')}({', '.join([self.label, *given])})"


@dataclass(frozen=True)
class TestReport:
    """status: 'passed'; 'failed' (exception: what the test raised); 'program_ended' (the last of
    `calls` says how); 'test_ended' (the test's own process reached a limit); 'unsupported' (the
    test passes the program something that cannot be sent; detail says what); 'not_run'. calls: the
    last few. undefined: a name that neither the test nor the program defines."""

    __test__ = False

    status: Literal["passed", "failed", "program_ended", "test_ended", "unsupported", "not_run"]
    exception: CandidateException | None = None
    calls: tuple[tuple[RelayedCall, CallResult], ...] = ()
    num_calls: int = 0
    detail: str = ""
    undefined: str | None = None


@dataclass(frozen=True)
class RelayedTests:
    """program: how loading the program went the first time. setup_failure: how the tests' preamble
    or setup failed, if it did."""

    program: ProgramResult
    tests: tuple[TestReport, ...]
    setup_failure: TestReport | None = None


def run_tests(
    program_sandbox: Sandbox, test_sandbox: Sandbox, program: AssertProgram, code: AssertCode
) -> RelayedTests:
    """Run each test of `code`. After a test in which the program ended, program and tests are
    started again in new processes for the next test, at most twice; the remaining tests are then
    'not_run'. Raises `SandboxError`."""
    reports: list[TestReport] = []
    first: RelayedTests | None = None
    for _ in range(_MAX_RESTARTS + 1):
        rest = replace(code, tests=code.tests[len(reports) :])

        converse = partial(_converse, program_sandbox, test_sandbox, program, rest)
        part = program_sandbox.retried(partial(test_sandbox.retried, converse))
        first = first or part
        reports += part.tests
        if len(reports) == len(code.tests) or not part.tests:
            break
    missing = len(code.tests) - len(reports)
    assert first is not None, "there is at least one try"
    return replace(first, tests=(*reports, *[TestReport("not_run")] * missing))


def _converse(
    program_sandbox: Sandbox, test_sandbox: Sandbox, program: AssertProgram, code: AssertCode
) -> RelayedTests:
    """Run the tests up to the one in which the program or the tests' own process ends."""
    with ExitStack() as stack:
        session = stack.enter_context(program_sandbox.session(program.source, program.preamble))
        relay = _Relay(session, program_sandbox)
        if session.usable:
            child = stack.enter_context(test_sandbox.child())
            relay.converse(
                child,
                {
                    "mode": "tests",
                    "source": code.setup,
                    "preamble": code.preamble,
                    "names": list(program.names),
                    "tests": list(code.tests),
                },
            )
            child.finish("exited")
    return RelayedTests(session.result(), tuple(relay.reports), relay.setup_failure)


class _Relay:
    """Passes messages between the tests' process and the program's."""

    def __init__(self, session: Session, sandbox: Sandbox):
        self._session = session
        self._limit_s = sandbox.limits.cpu_time_s
        self._limit_bytes = _MAX_ANSWERS_OF_A_TEST * sandbox.limits.answer_kb * 1024
        self.reports: list[TestReport] = []
        self.setup_failure: TestReport | None = None
        self._forget()

    def _forget(self) -> None:
        self._calls: list[tuple[RelayedCall, CallResult]] = []
        self._num_calls = 0
        self._cpu_s = 0.0
        self._num_bytes = 0
        self._unanswered = False

    def converse(self, child: Child, job: dict[str, Any]) -> None:
        """Pass messages on until the last test has reported, or no further test can."""
        is_set_up = is_running = False
        try:
            child.ask(job)
            while self._session.usable or is_running or not is_set_up:
                message = child.receive()
                if "setup" in message:
                    is_set_up = True
                    if message["setup"] or self._unanswered:
                        self.setup_failure = self._report(message["setup"])
                        return
                elif "begin" in message:
                    self._forget()
                    is_running = True
                elif "request" in message:
                    child.ask(self._answer(message["request"], message["label"]))
                elif "test" in message:
                    is_running = False
                    self.reports.append(self._report(message))
                    if len(self.reports) == len(job["tests"]):
                        return
        except ProcessEnded as end:
            report = self._as_report("test_ended", detail=end.ending)
            if not is_set_up:
                self.setup_failure = report
            elif is_running:
                self.reports.append(report)

    def _answer(self, request: dict[str, Any], label: str) -> dict[str, Any]:
        limits = (self._num_calls > _MAX_CALLS_OF_A_TEST, self._cpu_s > self._limit_s)
        raw: dict[str, Any] = {}
        if any(limits) or self._num_bytes > self._limit_bytes:
            # The limit for one call also holds for all calls of a test together.
            ending: Literal["cpu_timeout", "answer_limit"] = (
                "cpu_timeout" if any(limits) else "answer_limit"
            )
            self._session.stop(ending)
            result = CallResult(ending)
        else:
            before = self._session.num_bytes
            result, raw = self._session.request(request)
            self._cpu_s += result.cpu_s
            self._num_bytes += self._session.num_bytes - before
        if "operation" in request:
            self._note(request, label, result)
        elif not raw.get("absent"):
            # From here on the program may be the reason why the test fails.
            self._num_calls += 1
        if result.status == "returned":
            return {name: raw[name] for name in ("value", "absent", "exhausted") if name in raw}
        if result.exception is not None:
            raised = raw.get("raised")
            known = raised if type(raised) is dict else {}
            return {"raised": {**known, "message": result.exception.message}}
        self._unanswered = True
        return {"stopped": True}

    def _note(self, request: dict[str, Any], label: str, result: CallResult) -> None:
        self._num_calls += 1
        # Operations on objects would fill the few calls that are kept, and say nothing.
        if request["operation"] == "__call__" or result.status != "returned":
            call = RelayedCall(
                label[:_LABEL_CHARACTERS],
                request["operation"],
                request["arguments"],
                request["keywords"],
            )
            self._calls = [*self._calls[-_MAX_CALLS_KEPT + 1 :], (call, result)]

    def _report(self, message: dict[str, Any]) -> TestReport:
        if self._unanswered:
            # Even where the test caught that and went on, it says nothing about the program.
            return self._as_report("program_ended")
        if message.get("unsupported"):
            return self._as_report("unsupported", detail=str(message["unsupported"]))
        if message.get("exception") is None:
            return self._as_report("passed")
        return replace(
            self._as_report("failed"),
            exception=read_exception(message["exception"]),
            undefined=message["undefined"],
        )

    def _as_report(self, status: Any, detail: str = "") -> TestReport:
        return TestReport(
            status, calls=tuple(self._calls), num_calls=self._num_calls, detail=detail
        )
