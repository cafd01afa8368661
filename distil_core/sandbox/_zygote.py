"""The host's side of a zygote: start it, have it fork children, learn how each ended, end it.

Only our own code writes to its socket. If anything else ever arrives there, the zygote counts as
dead: nothing is known about the program then, so it runs again.
"""

import os
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from distil_core.errors import SandboxError
from distil_core.sandbox._bubblewrap import start_failure, zygote_command
from distil_core.sandbox._other_user import UserMap, other_user
from distil_core.sandbox._seccomp import seccomp_filter
from distil_core.sandbox.inside.values import NotPlainDataError, dump, parse
from distil_core.sandbox.limits import Isolation

_MESSAGE_BYTES = 1 << 16
_START_TIMEOUT_S = 120.0
_FORK_TIMEOUT_S = 60.0
_STDERR_BYTES = 4000


class ZygoteDied(Exception):
    """The zygote is gone or does not answer, so that nothing is known about the program."""


@dataclass(frozen=True)
class EndOfChild:
    """How a child ended, as the kernel told the zygote. exit: the exit code, negative for a
    signal."""

    exit: int
    cpu_s: float
    max_rss_mb: float


class Zygote:
    """One zygote process. It belongs to the process that started it; a fork of that must start its
    own."""

    def __init__(self, isolation: Isolation, answer_bytes: int, packages: Sequence[str] = ()):
        isolated = isolation != "rlimits_only"
        user = other_user() if isolated else None
        self.owner = os.getpid()
        self._folder: str | None = None
        if not isolated:
            self._folder = tempfile.mkdtemp(prefix="distil-unprotected-")
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process: subprocess.Popen[bytes] | None = None
        settings = {
            "isolated": isolated,
            "is_root": user is not None,
            # A zygote for a single program does not load them, as they are rarely needed.
            "preload": isolation != "bubblewrap_cold",
            "answer_bytes": answer_bytes,
            "seccomp_filter": seccomp_filter().hex() if isolated else "",
        }
        try:
            with theirs:
                self._start(isolated, packages, user, theirs)
            self._control.settimeout(_START_TIMEOUT_S)
            self._control.send(dump(settings))
            message, _ = self._receive()
            if "ready" not in message:
                raise ZygoteDied("it began with something else than ready")
        except (OSError, ZygoteDied) as error:
            self.close()
            raise SandboxError(start_failure(self._last_words or str(error))) from error
        except BaseException:
            self.close()
            raise
        self._control.settimeout(_FORK_TIMEOUT_S)

    def _start(
        self, isolated: bool, packages: Sequence[str], user: int | None, control: socket.socket
    ) -> None:
        if user is None:
            self._spawn(zygote_command(isolated, packages), control, ())
            return
        with closing(UserMap(user)) as users:
            command = zygote_command(isolated, packages, users.arguments)
            self._spawn(command, control, users.pass_fds)
            users.write()

    def _spawn(
        self, command: list[str], control: socket.socket, descriptors: tuple[int, ...]
    ) -> None:
        self._process = subprocess.Popen(
            [*command, str(control.fileno())],
            pass_fds=(control.fileno(), *descriptors),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
            cwd=self._folder or "/",
            env={"PYTHONHASHSEED": "0", "LANG": "C.UTF-8", "PATH": os.defpath},
        )

    @property
    def pid(self) -> int:
        """The id of the process that the host started (bubblewrap, where it is used)."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_dead(self) -> bool:
        """Whether that process is known to have ended."""
        return self._process is None or self._process.poll() is not None

    def fork(self, limits: dict[str, Any], descriptors: list[int]) -> int:
        """Fork a child with these descriptors (standard input, output, error, channel); returns its
        pidfd."""
        try:
            socket.send_fds(self._control, [dump(limits)], descriptors)
        except OSError as error:
            raise ZygoteDied(str(error)) from error
        answer, received = self._receive(num_descriptors=1)
        if answer != {"started": True}:
            os.close(received[0])
            raise ZygoteDied("it sent something else than a process")
        return received[0]

    def ended(self) -> EndOfChild:
        """Wait for the child's end and return how it ended."""
        message, _ = self._receive()
        match message:
            case {"exit": int(status), "cpu_s": float(cpu_s), "max_rss_mb": float(rss_mb)}:
                return EndOfChild(status, cpu_s, rss_mb)
        raise ZygoteDied("it sent something else than how a process ended")

    def _receive(self, num_descriptors: int = 0) -> tuple[dict[str, Any], list[int]]:
        """A message that comes with `num_descriptors` descriptors. Raises `ZygoteDied` for anything
        else."""
        try:
            message, descriptors, _, _ = socket.recv_fds(self._control, _MESSAGE_BYTES, 4)
        except OSError as error:
            raise ZygoteDied(str(error)) from error
        try:
            if not message:
                raise ZygoteDied("it closed its socket")
            answer = parse(message)
            if type(answer) is not dict:
                raise ZygoteDied("it sent what is no message")
            if "error" in answer or len(descriptors) != num_descriptors:
                reason = f"it sent {len(descriptors)} descriptors, expected {num_descriptors}"
                raise ZygoteDied(str(answer.get("error", reason))[:_STDERR_BYTES])
        except (NotPlainDataError, ZygoteDied) as error:
            for descriptor in descriptors:
                os.close(descriptor)
            if isinstance(error, ZygoteDied):
                raise
            raise ZygoteDied(f"it sent what is no message: {error}") from error
        return answer, list(descriptors)

    def close(self) -> None:
        """End the zygote with all its children, and wait until they are gone."""
        self._control.close()
        if self.owner == os.getpid():
            if self._process is not None:
                self._process.kill()
                self._process.wait()
            if self._folder is not None:
                _remove_folder(self._folder)
                self._folder = None
        if not self._stderr.closed:
            self._stderr.seek(max(0, self._stderr.seek(0, os.SEEK_END) - _STDERR_BYTES))
            self._last_words = self._stderr.read().decode(errors="replace")
            self._stderr.close()


def _remove_folder(folder: str) -> None:
    # A program may nest folders deeper than Python's own removal goes.
    subprocess.run(["rm", "-rf", "--", folder], env={"PATH": os.defpath}, check=True)
