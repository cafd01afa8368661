"""A child process that reads and writes one JSON object per line and can be killed at any time.

A verifier runs there what must not run in its own process, under the kernel's limits: the handler
of a Python signal does not run during a long operation on big numbers.
"""

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

# Exits that no request can cause: somebody else killed the process.
_FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)


class ProcessDiedError(Exception):
    """The process ended during `stage`. returncode: None where it was ended because it was
    silent."""

    def __init__(self, stage: str, returncode: int | None):
        super().__init__(stage)
        self.stage = stage
        self.returncode = returncode

    @property
    def is_cpu_limit(self) -> bool:
        """Whether the process's own CPU timer ended it."""
        return self.returncode == -signal.SIGPROF

    @property
    def is_from_outside(self) -> bool:
        """Whether it was ended for being silent too long, or killed by somebody else."""
        return self.returncode is None or self.returncode in _FROM_OUTSIDE


class LineProcess:
    """One process, started at the first request and again after each end.

    In a forked process an inherited object starts a process of its own.
    """

    def __init__(
        self,
        command: Sequence[str],
        arguments: Sequence[str],
        environment: Mapping[str, str],
        stderr: int | None = None,
    ):
        """command: receives this process's id, then `arguments`. stderr: as for `Popen`."""
        self._command = tuple(command)
        self._arguments = tuple(arguments)
        self._environment = {"PATH": os.environ.get("PATH", ""), **environment}
        self._stderr = stderr
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._received = b""

    @property
    def pid(self) -> int | None:
        """The id of the process that waits for requests now."""
        return self._process.pid if self._process and self._owner == os.getpid() else None

    def start(self) -> bool:
        """Start the process unless it runs; returns whether it was started. Raises `OSError`."""
        mine = self._process if self._owner == os.getpid() else None
        if mine is not None and mine.poll() is None:
            return False
        self.close()
        self._owner = os.getpid()
        self._process = subprocess.Popen(
            [*self._command, str(self._owner), *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=self._environment,
            start_new_session=True,
        )
        return True

    def send(self, request: Mapping[str, Any], stage: str) -> None:
        """Send one request. Raises `ProcessDiedError`."""
        process = self._running()
        assert process.stdin is not None
        try:
            process.stdin.write((json.dumps(request) + "\n").encode("ascii"))
            process.stdin.flush()
        except BrokenPipeError:
            raise self._death(stage) from None

    def receive(self, stage: str, wall_limit_s: float) -> dict[str, Any]:
        """The next line. A process that is silent for longer than the limit is ended. Raises
        `ProcessDiedError`."""
        process = self._running()
        assert process.stdout is not None
        deadline = time.monotonic() + wall_limit_s
        while b"\n" not in self._received:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not select.select([process.stdout], [], [], left_s)[0]:
                self.close()
                raise ProcessDiedError(stage, None)
            content = os.read(process.stdout.fileno(), 65536)
            if not content:
                raise self._death(stage)
            self._received += content
        line, _, self._received = self._received.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def close(self) -> None:
        """End the process, if one runs."""
        process, self._process, self._received = self._process, None, b""
        if process is None or self._owner != os.getpid():
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def _running(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None, "`start` comes first"
        return self._process

    def _death(self, stage: str) -> ProcessDiedError:
        returncode = self._running().wait()
        self.close()
        return ProcessDiedError(stage, returncode)
