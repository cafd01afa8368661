"""Compares mathematical expressions with SymPy, in a process that can be killed.

A timeout by a Python signal handler does not run inside a long operation on big numbers
(huggingface/Math-Verify, issues 63 and 65). Here the limits are the kernel's; a process that ran
into one is replaced, and the stage it was in tells whose expression was too costly.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal

from distil_core.errors import VerifierError
from distil_core.tools._math_text import Node

Comparison = Literal[
    "equal", "different", "unreadable_answer", "answer_too_costly", "comparison_too_costly"
]

_SIMPLEST: Node = {"kind": "number", "value": "1", "unit": []}
_WORKER = Path(__file__).with_name("_math_worker.py")
_START_LIMIT_S = 120.0
# Ends of the process that a response cannot cause: somebody else killed it.
_FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP, 0)


@dataclass(frozen=True)
class ComparisonSettings:
    """allow_unevaluated: `37 * 43 + 11` may stand for 1602. factor: the answer, a single number or
    expression, is multiplied by it to be in the reference's unit."""

    allow_unevaluated: bool
    factor: str = "1"


class _Died(Exception):
    """The process ended, or was killed for it, while it was in `stage`."""

    def __init__(self, stage: str, returncode: int | None):
        super().__init__(stage)
        self.stage = stage
        self.returncode = returncode


class MathProcess:
    """One mathematics process, started when it is first needed and after each end.

    cpu_limit_s: of each stage (reading the reference, reading the answer, comparing). The wall
    clock is only a loose backstop (a busy machine is not the response's fault). An object that is
    inherited by a forked process starts a process of its own there.
    """

    def __init__(self, cpu_limit_s: float, memory_limit_bytes: int):
        self._cpu_limit_s = cpu_limit_s
        self._memory_limit_bytes = memory_limit_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._received = b""

    def compare(self, reference: Node, answer: Node, settings: ComparisonSettings) -> Comparison:
        """Whether `answer` means the same as `reference`.

        Raises `VerifierError` when the reference cannot be read within the limits, or when the
        process cannot run for a reason that is not the answer's.
        """
        comparison = self._compare(reference, answer, settings)
        # Reading is lazy: what a reference costs may show only when it is compared.
        if comparison == "comparison_too_costly":
            self.check(reference)
        return comparison

    def check(self, reference: Node) -> None:
        """Raises `VerifierError` when the reference cannot be read and compared within the
        limits."""
        settings = ComparisonSettings(allow_unevaluated=True)
        if self._compare(reference, _SIMPLEST, settings) == "comparison_too_costly":
            raise VerifierError(f"even comparing the reference with 1 takes more than {self}")

    def close(self) -> None:
        """End the process, if there is one here."""
        process, self._process, self._received = self._process, None, b""
        if process is None or self._owner != os.getpid():
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    @property
    def pid(self) -> int | None:
        """Of the process that now waits for requests."""
        return self._process.pid if self._process and self._owner == os.getpid() else None

    def __str__(self) -> str:
        memory_mib = self._memory_limit_bytes >> 20
        return f"{self._cpu_limit_s:g} s of CPU time or {memory_mib} MiB of memory"

    def _compare(self, reference: Node, answer: Node, settings: ComparisonSettings) -> Comparison:
        request = {"reference": reference, "answer": answer, **asdict(settings)}
        try:
            return self._attempt(request)
        except _Died as death:
            if death.returncode == -signal.SIGPROF:
                return self._blame(death)
        # Once more in a fresh process, so that nothing which came before decides a verdict.
        try:
            return self._attempt(request)
        except _Died as death:
            return self._blame(death)

    def _blame(self, death: _Died) -> Comparison:
        if death.returncode is None or death.returncode in _FROM_OUTSIDE:
            how = "did not answer" if death.returncode is None else "was killed from outside"
            raise VerifierError(
                f"the mathematics process {how} twice while it was at stage '{death.stage}': "
                "is the machine overloaded or out of memory?"
            )
        if death.stage == "reference":
            raise VerifierError(f"reading the reference takes more than {self}")
        return "answer_too_costly" if death.stage == "answer" else "comparison_too_costly"

    def _attempt(self, request: dict[str, Any]) -> Comparison:
        try:
            return self._exchange(request)
        except BaseException:
            # Also when the caller is interrupted: a late answer must not be read as the next one.
            self.close()
            raise

    def _exchange(self, request: dict[str, Any]) -> Comparison:
        process = self._running()
        line = json.dumps(request) + "\n"
        stage = "reference"
        try:
            _pipe(process.stdin).write(line.encode("ascii"))
            _pipe(process.stdin).flush()
        except BrokenPipeError:
            raise self._death(stage) from None
        while True:
            message = self._message(stage, self._wall_limit_s())
            if "stage" in message:
                stage = message["stage"]
                continue
            if message.get("retiring"):
                self.close()
            outcome: Any = message["outcome"]
            if outcome == "unreadable_reference":
                raise VerifierError("the reference is no number or expression")
            return outcome

    def _wall_limit_s(self) -> float:
        return 60.0 + 20.0 * self._cpu_limit_s

    def _running(self) -> subprocess.Popen[bytes]:
        mine = self._process if self._owner == os.getpid() else None
        if mine is not None and mine.poll() is None:
            return mine
        self.close()
        self._owner = os.getpid()
        self._process = self._start()
        try:
            message = self._message("start", _START_LIMIT_S)
        except _Died as death:
            raise VerifierError(
                f"the mathematics process did not start (exit status {death.returncode})"
            ) from None
        if "failed" in message:
            self.close()
            raise VerifierError(
                f"latex2sympy does not work here ({message['failed']}): install the versions of "
                "this project's requirements"
            )
        return self._process

    def _start(self) -> subprocess.Popen[bytes]:
        limits = (str(self._memory_limit_bytes), str(self._cpu_limit_s))
        try:
            return subprocess.Popen(
                [sys.executable, "-s", "-P", str(_WORKER), str(self._owner), *limits],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                # SymPy must not walk its sets in another order in each process.
                env={"PATH": os.environ.get("PATH", ""), "PYTHONHASHSEED": "0"},
                start_new_session=True,
            )
        except OSError as error:
            raise VerifierError(f"the mathematics process cannot be started: {error}") from error

    def _message(self, stage: str, wall_limit_s: float) -> dict[str, Any]:
        output = _pipe(self._process.stdout if self._process else None)
        deadline = time.monotonic() + wall_limit_s
        while b"\n" not in self._received:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not select.select([output], [], [], left_s)[0]:
                self.close()
                raise _Died(stage, None)
            content = os.read(output.fileno(), 65536)
            if not content:
                raise self._death(stage)
            self._received += content
        line, _, self._received = self._received.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def _death(self, stage: str) -> _Died:
        returncode = self._process.wait() if self._process else None
        self.close()
        return _Died(stage, returncode)


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise VerifierError("the mathematics process has no pipe")
    return pipe
