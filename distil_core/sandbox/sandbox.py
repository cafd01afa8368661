"""Runs untrusted code and reports the outcome."""

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TypeVar

from distil_core.errors import SandboxError
from distil_core.sandbox._child import Child, ProcessEnded
from distil_core.sandbox._process_report import ProcessReport
from distil_core.sandbox._self_test import examine_isolation
from distil_core.sandbox._zygote import Zygote, ZygoteDied
from distil_core.sandbox.inside.values import encode
from distil_core.sandbox.limits import Isolation, Limits
from distil_core.sandbox.results import (
    Call,
    CallResult,
    Ending,
    ProgramResult,
)

_MAX_TRIES = 3
_PROBE_CPU_S, _PROBE_WALL_S = 20.0, 300.0
_Result = TypeVar("_Result")


class Sandbox:
    """Runs programs one at a time, each independent of those before it.

    The zygote starts with the first program (about 0.3 s); after that a program costs a few
    milliseconds. A zygote that dies is replaced and the program runs again. `SandboxError` means
    that the isolation is missing, or that the sandbox itself failed three times in a row; it never
    says anything about the program.

    packages: top-level packages outside the standard library that programs may import, where this
    Python has them. Threads may share a Sandbox (they take turns), and a forked process gets its
    own zygote. Linux ends a zygote with the thread that started it; it is then replaced too.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        isolation: Isolation = "bubblewrap_zygote",
        packages: Sequence[str] = (),
    ) -> None:
        self.limits = limits or Limits()
        self._packages = tuple(packages)
        self.isolation: Isolation = isolation
        self.num_zygotes_started = 0
        self._zygote: Zygote | None = None
        self._lock = threading.RLock()
        self._examined = False

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every process. The Sandbox can be used again and then starts new ones."""
        with self._lock:
            if self._zygote is not None:
                self._zygote.close()
                self._zygote = None

    @property
    def zygote_pid(self) -> int | None:
        """The id of the process that the host started; None before the first program."""
        return self._zygote.pid if self._zygote is not None else None

    def run_program(
        self,
        source: str,
        stdin: bytes | str = b"",
        trace_lines: int = 0,
        preamble: str = "",
        output_kb: int | None = None,
    ) -> ProgramResult:
        """Run `source` as a script.

        trace_lines: roughly how many executed lines `trace` holds, half of them the first ones.
        preamble: code that runs before `source` in the same namespace. output_kb: replaces the
        limits' own.
        """
        data = stdin.encode("utf-8", "surrogateescape") if isinstance(stdin, str) else stdin
        limits = self.limits.model_copy(update={"output_kb": output_kb or self.limits.output_kb})
        job = {
            "mode": "program",
            "source": source,
            "trace_lines": trace_lines,
            "preamble": preamble,
        }
        return self.retried(lambda: self._run_program(job, data, limits))

    def run_calls(
        self, source: str, calls: Sequence[Call], trace_lines: int = 0, preamble: str = ""
    ) -> ProgramResult:
        """Load `source`, then make the calls one after another in the same process. Each call has
        its own time limit; when one ends the process, the rest are 'not_run'. preamble: code that
        runs before `source` in the same namespace."""

        def run() -> ProgramResult:
            with self.session(source, preamble) as session:
                results = tuple(session.call(call, trace_lines) for call in calls)
            return session.result(results)

        return self.retried(run)

    @contextmanager
    def session(self, source: str, preamble: str = "") -> Iterator["Session"]:
        """A context with the loaded program, which can be asked; its result exists after the block.
        Run the whole block again where `ZygoteDied` ends it: see `retried`."""
        with self.child() as child:
            session = Session(child, source, preamble, self.isolation)
            yield session
            session.finish()

    def retried(self, run: Callable[[], _Result]) -> _Result:
        """`run()`, repeated with a new zygote where one died. Raises `SandboxError`."""
        with self._lock:
            for tries in range(1, _MAX_TRIES + 1):
                try:
                    return run()
                except ZygoteDied as error:
                    self._drop_zygote()
                    if tries == _MAX_TRIES:
                        raise SandboxError(
                            f"the sandbox died {tries} times while it ran a program, last: {error}"
                        ) from error
            raise AssertionError("unreachable")

    def ensure_ready(self) -> None:
        """Run the self-test unless it has been run. Raises `SandboxError`."""
        if not self._examined:
            self.self_test()

    def self_test(self) -> str:
        """Try everything that the isolation must prevent, and return one line that says what holds.
        Raises `SandboxError` where the isolation is missing or lets something through."""
        with self._lock:
            self._examined = True
            try:
                return self.retried(lambda: examine_isolation(self._probe, self.isolation))
            except SandboxError:
                self._examined = False
                self.close()
                raise

    def _probe(self, job: dict[str, Any], stdin: bytes) -> ProgramResult:
        """Run one part of the self-test, with generous time limits: a busy machine is no lack of
        isolation."""
        times = {
            "cpu_time_s": max(_PROBE_CPU_S, self.limits.cpu_time_s),
            "wall_time_s": max(_PROBE_WALL_S, self.limits.wall_time_s),
        }
        return self._run_program(job, stdin, self.limits.model_copy(update=times))

    def _run_program(
        self, job: dict[str, Any], stdin: bytes, limits: Limits | None = None
    ) -> ProgramResult:
        with self.child(stdin, limits) as child:
            report = ProcessReport(job["trace_lines"] > 0)
            try:
                child.ask(job)
                report.read_preparation(child)
                while True:
                    report.add(child.receive())
            except ProcessEnded as end:
                return _result(child, end.ending, self.isolation, report)

    @contextmanager
    def child(self, stdin: bytes = b"", limits: Limits | None = None) -> Iterator[Child]:
        """A context with a confined process that waits for its job. limits: replace the sandbox's
        own. Raises `ZygoteDied`: see `retried`."""
        with self._lock:
            self.ensure_ready()
            zygote = self._living_zygote()
            try:
                child = Child(zygote, limits or self.limits, stdin)
            except BaseException:
                self._drop_zygote()
                raise
            try:
                yield child
            except BaseException:
                # Interrupted within a conversation, whose rest the next one must not read.
                self._drop_zygote()
                raise
            finally:
                child.release()
                if self.isolation == "bubblewrap_cold":
                    self._drop_zygote()

    def _living_zygote(self) -> Zygote:
        if self._zygote is not None and (self._zygote.owner != os.getpid() or self._zygote.is_dead):
            self._drop_zygote()
        if self._zygote is None:
            try:
                self._zygote = Zygote(self.isolation, self.limits.answer_kb * 1024, self._packages)
            except SandboxError as error:
                if not self.num_zygotes_started:
                    raise
                # It has started here before, so this is a passing shortage, and it is tried again.
                raise ZygoteDied(str(error)) from error
            self.num_zygotes_started += 1
        return self._zygote

    def _drop_zygote(self) -> None:
        if self._zygote is not None:
            self._zygote.close()
            self._zygote = None


class Session:
    """A loaded program. Its process ends with the block that `Sandbox.session` opens."""

    def __init__(self, child: Child, source: str, preamble: str, isolation: Isolation):
        self._child = child
        self._isolation = isolation
        self._ending: Ending | None = None
        self._result: ProgramResult | None = None
        self._report = ProcessReport()
        job = {"mode": "calls", "source": source, "preamble": preamble}
        answer = self._ask(job, self._report, prepares=True)
        if self._ending is None and "loaded" not in answer and self._report.exception is None:
            self._ending = "violation"

    @property
    def usable(self) -> bool:
        """Whether the program loaded and is still running."""
        return self._ending is None and self._report.exception is None

    def call(self, call: Call, trace_lines: int = 0) -> CallResult:
        """Make one call. Raises `NotPlainDataError` for arguments that are not plain data."""
        arguments, keywords = call.arguments, call.keywords
        if not call.is_encoded:
            arguments, keywords = encode(tuple(arguments)), encode(dict(keywords))
        request = {
            "function": call.function,
            "arguments": arguments,
            "keywords": keywords,
            "trace_lines": trace_lines,
        }
        return self.request(request, trace_lines > 0)[0]

    def request(
        self, request: dict[str, Any], is_traced: bool = False
    ) -> tuple[CallResult, dict[str, Any]]:
        """Send a request to inside/harness.py; returns the result, and the answer itself,
        unchecked."""
        if not self.usable:
            return CallResult("not_run"), {}
        # Unpredictable, so that an answer written before its question breaks the protocol.
        sequence = secrets.randbits(48)
        before_s, report = self._child.cpu_s, ProcessReport(is_traced)
        answer = self._ask({**request, "sequence": sequence}, report, sequence)
        cpu_s, trace = self._child.cpu_s - before_s, tuple(report.trace)
        if self._ending is not None:
            return CallResult(self._ending, cpu_s=cpu_s, trace=trace), {}
        if report.exception is not None:
            return CallResult("raised", None, report.exception, cpu_s, trace), answer
        return CallResult("returned", answer["value"], None, cpu_s, trace), answer

    @property
    def ended(self) -> bool:
        """Whether `result` is available."""
        return self._result is not None

    @property
    def num_bytes(self) -> int:
        """The size of all messages that the program's process has sent."""
        return self._child.num_bytes_received

    def stop(self, ending: Ending) -> None:
        """Refuse all further calls, with this ending."""
        self._ending = self._ending or ending

    def finish(self) -> None:
        """Let the program end, and collect its result. Raises `ZygoteDied`."""
        ending = self._ending
        if ending is None:
            try:
                self._child.ask({"finish": True})
                self._child.receive()
                ending = "violation"
            except ProcessEnded as end:
                ending = end.ending
        self._result = _result(self._child, ending, self._isolation, self._report)

    def result(self, calls: tuple[CallResult, ...] = ()) -> ProgramResult:
        """The result of the whole run, after the block has ended."""
        if self._result is None:
            raise AssertionError("the session has not ended")
        return ProgramResult(**{**self._result.__dict__, "calls": calls})

    def _ask(
        self,
        message: Any,
        report: ProcessReport,
        sequence: int | None = None,
        prepares: bool = False,
    ) -> dict[str, Any]:
        """The answer to `message`; {} where there is none, and then `_ending` says why. prepares:
        the preamble runs first."""
        try:
            self._child.ask(message)
            if prepares:
                report.read_preparation(self._child)
            while report.add(answer := self._child.receive()):
                pass
            if answer.get("sequence") != sequence:
                raise ProcessEnded("violation")
            if answer.get("too_large"):
                raise ProcessEnded("answer_limit")
            if report.exception is None and sequence is not None and "value" not in answer:
                raise ProcessEnded("violation")
        except ProcessEnded as end:
            self._ending = end.ending
            return {}
        return answer


def _result(
    child: Child, ending: Ending, isolation: Isolation, report: ProcessReport
) -> ProgramResult:
    cpu_s = child.cpu_s
    ending, usage = child.finish(ending)
    return ProgramResult(
        ending=ending,
        exit_code=usage.exit if ending == "exited" else None,
        stdout=child.stdout,
        stderr=child.stderr,
        cpu_s=max(cpu_s, usage.cpu_s),
        wall_s=time.monotonic() - child.started_s,
        max_rss_mb=usage.max_rss_mb,
        isolation=isolation,
        exception=report.exception,
        compiled=report.compiled,
        preamble_exception=report.preamble_exception,
        trace=tuple(report.trace),
    )
