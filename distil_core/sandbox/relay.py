"""Assert-style tests: their code runs in one sandbox and asks the program in another.

The host carries each call across as plain data, so an object that lies, a patched builtin or a
test that patches has nobody to reach.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Literal

from distil_core.sandbox._child import Child, Ended
from distil_core.sandbox._told import read_exception
from distil_core.sandbox.inside.values import decode
from distil_core.sandbox.results import Call, CallResult, CandidateException, ProgramResult
from distil_core.sandbox.sandbox import Sandbox, Session

_MAX_CALLS_OF_A_TEST = 20_000
_MAX_CALLS_KEPT = 5
_MAX_RESTARTS = 2


@dataclass(frozen=True)
class TestReport:
    """status: 'passed'; 'failed' (exception: what the test raised); 'program_ended' (the last of
    `calls` says how); 'test_ended' (the test's own process ran into a limit); 'unsupported' (it
    hands the program what is no plain data, said in detail); 'not_run'. calls: the last few."""

    __test__ = False

    status: Literal["passed", "failed", "program_ended", "test_ended", "unsupported", "not_run"]
    exception: CandidateException | None = None
    calls: tuple[tuple[Call, CallResult], ...] = ()
    num_calls: int = 0
    detail: str = ""


@dataclass(frozen=True)
class RelayedTests:
    """program: how loading the program went. setup_failure: of the tests' own setup code."""

    program: ProgramResult | None
    tests: tuple[TestReport, ...]
    setup_failure: CandidateException | None = None


def run_tests(
    program_sandbox: Sandbox,
    test_sandbox: Sandbox,
    source: str,
    names: Sequence[str],
    setup: str,
    tests: Sequence[str],
) -> RelayedTests:
    """Run each of `tests` (statements) after `setup`; `names` (the first also as `candidate`) are
    functions of the program `source`. A program that ends in a test is started again for the next
    one, twice at most; the tests after that are 'not_run'. Raises `SandboxError`."""

    def run() -> RelayedTests:
        with ExitStack() as stack:
            relay = _Relay(program_sandbox, source, stack)
            if not relay.session.usable:
                stack.close()
                return RelayedTests(relay.session.result(), ())
            child = stack.enter_context(test_sandbox.child())
            job = {"mode": "tests", "source": setup, "names": list(names), "tests": list(tests)}
            failure = relay.converse(child, job)
            reports = tuple(relay.reports)
            child.finish("exited")
        rest = (TestReport("not_run"),) * (len(tests) - len(reports))
        return RelayedTests(relay.result, reports + rest, failure)

    return program_sandbox.retried(lambda: test_sandbox.retried(run))


class _Relay:
    """Carries one conversation between the tests' process and the program's."""

    def __init__(self, sandbox: Sandbox, source: str, stack: ExitStack):
        self._sandbox, self._source = sandbox, source
        self._opened = stack.enter_context(ExitStack())
        self._restarts = 0
        self.reports: list[TestReport] = []
        self.session = self._open()
        self._forget()

    @property
    def result(self) -> ProgramResult | None:
        """Of the program's last process."""
        return self.session.result() if self.session.ended else None

    def _open(self) -> Session:
        return self._opened.enter_context(self._sandbox.session(self._source))

    def _forget(self) -> None:
        self._calls: list[tuple[Call, CallResult]] = []
        self._num_calls = 0
        self._cpu_s = 0.0
        self._unanswered = False

    def converse(self, child: Child, job: dict[str, Any]) -> CandidateException | None:
        """Until the last test has reported; returns what the tests' setup raised, if anything."""
        is_set_up = running = False
        try:
            child.ask(job)
            while True:
                message = child.receive()
                if message.get("setup"):
                    return read_exception(message["setup"])
                is_set_up = True
                if "begin" in message:
                    self._forget()
                    running = True
                    if not self._alive():
                        return None
                elif "call" in message:
                    child.ask(self._answer(message["call"]))
                elif "test" in message:
                    running = False
                    self.reports.append(self._report(message))
        except Ended as end:
            if running:
                self.reports.append(self._as_report("test_ended", detail=end.ending))
            elif not is_set_up:
                return CandidateException("SystemExit", f"its process ended: {end.ending}")
        return None

    def _alive(self) -> bool:
        """Whether the program can be asked, after another start if that is still allowed."""
        if not self.session.usable and self._restarts < _MAX_RESTARTS:
            self._restarts += 1
            self._opened.close()
            self.session = self._open()
        return self.session.usable

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        call = Call(request["function"], decode(request["arguments"]), decode(request["keywords"]))
        self._num_calls += 1
        limit_s = self._sandbox.limits.cpu_time_s
        if self._num_calls > _MAX_CALLS_OF_A_TEST or self._cpu_s > limit_s:
            # The limit of a call is also the limit of a test, which may make many.
            self.session.stop("cpu_timeout")
            result = CallResult("cpu_timeout")
        else:
            result = self.session.call(call)
            self._cpu_s += result.cpu_s
        self._calls = [*self._calls[-_MAX_CALLS_KEPT + 1 :], (call, result)]
        if result.status == "returned":
            return {"value": result.encoded}
        if result.exception is not None:
            return {"raised": {"type": result.exception.type, "message": result.exception.message}}
        self._unanswered = True
        return {"stopped": True}

    def _report(self, message: dict[str, Any]) -> TestReport:
        if self._unanswered:
            # Even where the test caught that and went on: it says nothing about the program.
            return self._as_report("program_ended")
        if message.get("unsupported"):
            return self._as_report("unsupported", detail=str(message["unsupported"]))
        if message["exception"] is None:
            return self._as_report("passed")
        return replace(self._as_report("failed"), exception=read_exception(message["exception"]))

    def _as_report(self, status: Any, detail: str = "") -> TestReport:
        return TestReport(
            status, calls=tuple(self._calls), num_calls=self._num_calls, detail=detail
        )
