"""The host's side of a zygote: start it, have it fork, learn how a child ended, end it."""

import os
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from typing import Any

from distil_core.errors import SandboxError
from distil_core.sandbox._bubblewrap import start_failure, zygote_command
from distil_core.sandbox._seccomp import seccomp_filter
from distil_core.sandbox.inside.values import dump, parse
from distil_core.sandbox.limits import Isolation

_MESSAGE_BYTES = 1 << 16
_START_TIMEOUT_S = 120.0
_FORK_TIMEOUT_S = 60.0
_STDERR_BYTES = 4000


class ZygoteDied(Exception):
    """The zygote is gone or does not answer: nothing is known of the program."""


class Zygote:
    """One zygote process. Belongs to the process that made it; a fork must make its own."""

    def __init__(self, isolation: Isolation, answer_bytes: int, packages: Sequence[str] = ()):
        isolated = isolation != "rlimits_only"
        command = zygote_command(isolated, packages)
        self.owner = os.getpid()
        self._folder: str | None = None
        if not isolated:
            self._folder = tempfile.mkdtemp(prefix="distil-unprotected-")
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        with theirs:
            self._process = _start(command, theirs, self._stderr, self._folder)
        settings = {
            "isolated": isolated,
            # Not for a single program, which rarely needs them.
            "preload": isolation != "bubblewrap_cold",
            "answer_bytes": answer_bytes,
            "seccomp_filter": seccomp_filter().hex() if isolated else "",
        }
        try:
            self._control.settimeout(_START_TIMEOUT_S)
            self._control.send(dump(settings))
            if "ready" not in self._receive()[0]:
                raise ZygoteDied
        except (OSError, ZygoteDied) as error:
            self.close()
            raise SandboxError(start_failure(self._last_words)) from error
        self._control.settimeout(_FORK_TIMEOUT_S)

    @property
    def pid(self) -> int:
        """Of the process that the host started (bubblewrap itself, where there is one)."""
        return self._process.pid

    def fork(self, limits: dict[str, Any], descriptors: list[int]) -> int:
        """Start a child on (standard input, output, error, channel); returns its pidfd."""
        try:
            socket.send_fds(self._control, [dump(limits)], descriptors)
        except OSError as error:
            raise ZygoteDied(str(error)) from error
        answer, received = self._receive()
        if not received:
            raise ZygoteDied(str(answer.get("error", "it sent no process")))
        return received[0]

    def ended(self) -> dict[str, Any]:
        """How the child ended (exit, cpu_s, max_rss_mb), once it has."""
        return self._receive()[0]

    def _receive(self) -> tuple[dict[str, Any], list[int]]:
        try:
            message, descriptors, _, _ = socket.recv_fds(self._control, _MESSAGE_BYTES, 1)
        except OSError as error:
            raise ZygoteDied(str(error)) from error
        if not message:
            raise ZygoteDied("it closed its socket")
        return parse(message), list(descriptors)

    def close(self) -> None:
        """End it and all that lives in it, and wait for that."""
        self._control.close()
        if self.owner == os.getpid():
            self._process.kill()
            self._process.wait()
            if self._folder is not None:
                _remove_folder(self._folder)
        if not self._stderr.closed:
            self._stderr.seek(max(0, self._stderr.seek(0, os.SEEK_END) - _STDERR_BYTES))
            self._last_words = self._stderr.read().decode(errors="replace")
            self._stderr.close()


def _start(
    command: list[str], control: socket.socket, stderr: Any, folder: str | None
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            [*command, str(control.fileno())],
            pass_fds=(control.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            cwd=folder or "/",
            env={"PYTHONHASHSEED": "0", "LANG": "C.UTF-8", "PATH": os.defpath},
        )
    except OSError as error:
        raise SandboxError(f"the sandbox does not start: {error}") from error


def _remove_folder(folder: str) -> None:
    # A program may nest folders deeper than Python's own removal goes.
    subprocess.run(["rm", "-rf", "--", folder], env={"PATH": os.defpath}, check=True)
