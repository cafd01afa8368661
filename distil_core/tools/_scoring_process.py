"""Scores answers by the rules of reasoning-gym in a process that can be killed.

A rule may take an answer for a number and make a fraction of `1e99999999`, which no handler of
Python's can stop. A process that ran into a limit is replaced.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import Any, Literal

from distil_core.errors import VerifierError

Score = float | Literal["unreadable", "too_costly"]

_MODULE = "distil_core.tools._scoring_worker"
_START_LIMIT_S = 180.0
# Ends of the process that an answer cannot cause: somebody else killed it.
_FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)


class _DiedError(Exception):
    """The process ended, or was ended for its silence (None)."""

    def __init__(self, returncode: int | None, has_started: bool):
        super().__init__(returncode)
        self.returncode = returncode
        self.has_started = has_started


class ScoringProcess:
    """One process, started when it is first needed and after each end.

    cpu_limit_s: of each answer. The wall clock is only a loose backstop (a busy machine is not the
    answer's fault). An object that is inherited by a forked process starts one of its own there.
    """

    def __init__(self, cpu_limit_s: float, memory_limit_bytes: int):
        self._cpu_limit_s = cpu_limit_s
        self._memory_limit_bytes = memory_limit_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._received = b""

    def score(self, name: str, config: str, entry: dict[str, Any], answer: str) -> Score:
        """What the generator's rule gives for an answer. Raises `VerifierError` where it cannot
        score the problem's own answer either, or the process fails for a reason of its own."""
        request = {"name": name, "config": config, "entry": entry, "answer": answer}
        outcome = self._outcome(request)
        if isinstance(outcome, float):
            return outcome
        own = self._outcome({**request, "answer": str(entry.get("answer"))})
        if not isinstance(own, float):
            raise VerifierError(
                f"the rule of the reasoning-gym generator {name!r} cannot score the problem's own "
                f"answer ({own}): was the problem made by another version of the library?"
            )
        return outcome

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

    def _outcome(self, request: dict[str, Any]) -> Score:
        try:
            return self._attempt(request)
        except _DiedError as death:
            if death.returncode == -signal.SIGPROF:
                return "too_costly"
        # Once more in a fresh process, so that nothing which came before decides a verdict.
        try:
            return self._attempt(request)
        except _DiedError as death:
            if death.returncode is None or death.returncode in _FROM_OUTSIDE:
                raise VerifierError(
                    "the process that scores answers was ended twice, by nothing that it did: is "
                    "the machine overloaded or out of memory?"
                ) from None
            if not death.has_started:
                raise VerifierError(
                    f"the process that scores answers cannot start (status {death.returncode}): "
                    "see what it printed"
                ) from None
            return "too_costly"

    def _attempt(self, request: dict[str, Any]) -> Score:
        try:
            reply = self._exchange(request)
        except BaseException:
            # Also when the caller is interrupted: a late answer must not be read as the next one.
            self.close()
            raise
        return "unreadable" if "raised" in reply else float(reply["score"])

    def _exchange(self, request: dict[str, Any]) -> dict[str, Any]:
        process = self._running()
        content = (json.dumps(request) + "\n").encode("ascii")
        try:
            if process.stdin is not None:
                process.stdin.write(content)
                process.stdin.flush()
        except BrokenPipeError:
            raise self._death(has_started=False) from None
        self._message(_START_LIMIT_S, has_started=False)
        return self._message(60.0 + 20.0 * self._cpu_limit_s, has_started=True)

    def _running(self) -> subprocess.Popen[bytes]:
        mine = self._process if self._owner == os.getpid() else None
        if mine is not None and mine.poll() is None:
            return mine
        self.close()
        self._owner = os.getpid()
        limits = (str(self._memory_limit_bytes), str(self._cpu_limit_s))
        path = os.pathsep.join(path or "." for path in sys.path)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", _MODULE, str(self._owner), *limits],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={
                    "PATH": os.environ.get("PATH", ""),
                    "PYTHONPATH": path,
                    "PYTHONHASHSEED": "0",
                    "OMP_NUM_THREADS": "1",
                },
                start_new_session=True,
            )
        except OSError as error:
            raise VerifierError(
                f"the process that scores answers cannot be started: {error}"
            ) from error
        return self._process

    def _message(self, wall_limit_s: float, has_started: bool) -> dict[str, Any]:
        output = self._process.stdout if self._process else None
        if output is None:
            raise self._death(has_started)
        deadline = time.monotonic() + wall_limit_s
        while b"\n" not in self._received:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not select.select([output], [], [], left_s)[0]:
                self.close()
                raise _DiedError(None, has_started)
            content = os.read(output.fileno(), 65536)
            if not content:
                raise self._death(has_started)
            self._received += content
        line, _, self._received = self._received.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def _death(self, has_started: bool) -> _DiedError:
        returncode = self._process.wait() if self._process else None
        self.close()
        return _DiedError(returncode, has_started)
