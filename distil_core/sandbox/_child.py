"""The host's side of one confined child: its messages, output, CPU time and end.

Everything read here is hostile: sizes are checked before memory is allocated for them, and a child
that does anything but answer the question it was asked is ended.
"""

import contextlib
import fcntl
import os
import select
import signal
import socket
import time
from typing import Any

from distil_core.sandbox._zygote import EndOfChild, Zygote, ZygoteDied
from distil_core.sandbox.inside.frames import HEADER_BYTES
from distil_core.sandbox.inside.values import NotPlainDataError, dump, parse
from distil_core.sandbox.limits import Limits
from distil_core.sandbox.results import Ending

_CHUNK_BYTES = 1 << 16
_SHORTEST_WAIT_S = 0.005
_PID_FIELD = "Pid:"
# How long a loaded machine may need from the fork until the child is ready.
_READY_TIMEOUT_S = 60.0
_EXIT_TIMEOUT_S = 5.0


class ProcessEnded(Exception):
    """The child has ended, or the host must end it. ending: why."""

    def __init__(self, ending: Ending):
        super().__init__(ending)
        self.ending: Ending = ending


class Child:
    """One program's process, from fork to end. Call `finish` at its end, and `release` in every
    case."""

    def __init__(self, zygote: Zygote, limits: Limits, stdin: bytes):
        self._zygote = zygote
        self._limits = limits
        self.started_s = time.monotonic()
        self._buffer = bytearray()
        self.num_bytes_received = 0
        self._outputs: dict[int, bytearray] = {}
        self._channel, theirs = socket.socketpair()
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        stdin_file = _sealed_file(stdin)
        given = [stdin_file, out_write, err_write, theirs.fileno()]
        try:
            self._pidfd = zygote.fork(limits.model_dump(), given)
        except BaseException:
            for descriptor in (out_read, err_read):
                os.close(descriptor)
            self._channel.close()
            raise
        finally:
            theirs.close()
            for descriptor in given[:3]:
                os.close(descriptor)
        self._stdout, self._stderr = out_read, err_read
        self._outputs = {out_read: bytearray(), err_read: bytearray()}
        self._channel.setblocking(False)
        self._poll = select.poll()
        for descriptor in (self._channel.fileno(), out_read, err_read):
            os.set_blocking(descriptor, False)
            self._poll.register(descriptor, select.POLLIN)
        self._poll.register(self._pidfd, select.POLLIN)
        self._exited = self._closed = False
        self._last_cpu_s = 0.0
        try:
            self._clock = _cpu_clock(self._pidfd)
            self._allow(_READY_TIMEOUT_S, _READY_TIMEOUT_S)
            if self.receive() != {"ready": True}:
                raise ZygoteDied("a child began with something else than ready")
        except (ProcessEnded, ZygoteDied) as error:
            # Nothing of the program has run before that, so this is never the program's fault.
            self.release()
            raise ZygoteDied(f"a child was not confined: {self.stderr.decode()}") from error

    @property
    def cpu_s(self) -> float:
        """CPU time so far, of all its threads."""
        with contextlib.suppress(OSError):
            self._last_cpu_s = time.clock_gettime(self._clock)
        return self._last_cpu_s

    def ask(self, tree: Any) -> None:
        """Send a message and restart the child's time limits, which hold until the next message.
        Raises `ProcessEnded` with 'violation' if the child sent something without being asked."""
        self._read_channel()
        if self._buffer:
            raise ProcessEnded("violation")
        self._allow(self._limits.cpu_time_s, self._limits.wall_time_s)
        payload = dump(tree)
        message = memoryview(len(payload).to_bytes(HEADER_BYTES, "big") + payload)
        writer = select.POLLIN | select.POLLOUT
        while message:
            try:
                message = message[self._channel.send(message) :]
            except BlockingIOError:
                self._poll.modify(self._channel.fileno(), writer)
                self._wait()
                self._poll.modify(self._channel.fileno(), select.POLLIN)
            except OSError:
                # It closed its end. Messages that it sent before are read first.
                return

    def receive(self) -> Any:
        """The next message. Raises `ProcessEnded`."""
        while True:
            message = self._take()
            if message is not None:
                return message
            if self._exited and not self._read_channel():
                raise ProcessEnded("exited")
            if not self._exited:
                self._wait()

    def take_output(self) -> tuple[bytes, bytes]:
        """Standard output and error so far, which then begin anew, their limit too. Raises
        `ProcessEnded` with 'output_limit'."""
        for descriptor in self._outputs:
            while self._read_output(descriptor):
                pass
        taken = self.stdout, self.stderr
        for output in self._outputs.values():
            output.clear()
        return taken

    def pause(self) -> None:
        """Stop all its threads, until `resume`: nobody watches it meanwhile."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def finish(self, ending: Ending) -> tuple[Ending, EndOfChild]:
        """End the child unless it has exited, and read the output it still left. Returns the ending
        and the zygote's report. Raises `ZygoteDied`."""
        if not self._exited:
            self._signal(signal.SIGKILL)
        report = self._zygote.ended()
        try:
            for descriptor in self._outputs:
                while self._read_output(descriptor):
                    pass
        except ProcessEnded as flood:
            ending = flood.ending
        return ending, report

    def release(self) -> None:
        """Close every descriptor."""
        self._channel.close()
        for descriptor in (self._pidfd, self._stdout, self._stderr):
            os.close(descriptor)

    @property
    def stdout(self) -> bytes:
        return bytes(self._outputs[self._stdout])

    @property
    def stderr(self) -> bytes:
        return bytes(self._outputs[self._stderr])

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    def _allow(self, cpu_s: float, wall_s: float) -> None:
        self._cpu_deadline_s = self.cpu_s + cpu_s
        self._wall_deadline_s = time.monotonic() + wall_s

    def _take(self) -> Any:
        """One whole message from the buffer; None where it is not complete yet."""
        if len(self._buffer) < HEADER_BYTES:
            return None
        length = int.from_bytes(self._buffer[:HEADER_BYTES], "big")
        if length > self._limits.answer_kb * 1024:
            raise ProcessEnded("answer_limit")
        if len(self._buffer) < HEADER_BYTES + length:
            return None
        payload = self._buffer[HEADER_BYTES : HEADER_BYTES + length]
        del self._buffer[: HEADER_BYTES + length]
        try:
            message = parse(payload)
        except NotPlainDataError as error:
            raise ProcessEnded("violation") from error
        if type(message) is not dict:
            raise ProcessEnded("violation")
        return message

    def _wait(self) -> None:
        """Wait for the next event, at most until a limit could be reached."""
        cpu_left_s = self._cpu_deadline_s - self.cpu_s
        wall_left_s = self._wall_deadline_s - time.monotonic()
        if cpu_left_s <= 0:
            raise ProcessEnded("cpu_timeout")
        if wall_left_s <= 0:
            raise ProcessEnded("violation" if self._closed else "wall_timeout")
        # Two threads use CPU time at twice the speed of the clock.
        wait_s = max(_SHORTEST_WAIT_S, min(cpu_left_s / 2, wall_left_s))
        for descriptor, _ in self._poll.poll(wait_s * 1000):
            if descriptor == self._pidfd:
                self._exited = True
            elif descriptor == self._channel.fileno():
                self._read_channel()
            elif not self._read_output(descriptor):
                self._poll.unregister(descriptor)

    def _read_channel(self) -> bool:
        try:
            part = self._channel.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return False
        except ConnectionError:
            part = b""
        if not part:
            if not self._closed:
                self._closed = True
                self._poll.unregister(self._channel.fileno())
                # Either on purpose, or by its exit, which the kernel reports a little later.
                self._wall_deadline_s = time.monotonic() + _EXIT_TIMEOUT_S
            return False
        self._buffer += part
        self.num_bytes_received += len(part)
        return True

    def _read_output(self, descriptor: int) -> bool:
        """Read some output without waiting. False when nothing is left, for now or for good."""
        try:
            part = os.read(descriptor, _CHUNK_BYTES)
        except BlockingIOError:
            return False
        output = self._outputs[descriptor]
        room = self._limits.output_kb * 1024 - len(output)
        output += part[:room]
        if len(part) > room:
            raise ProcessEnded("output_limit")
        return bool(part)


def _sealed_file(content: bytes) -> int:
    """`content` as a file in memory that nobody can change, opened at its start."""
    descriptor = os.memfd_create("stdin", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor


def _cpu_clock(pidfd: int) -> int:
    """The id of the kernel's CPU clock for the process, by the process's id on the host."""
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as information:
        for line in information:
            if line.startswith(_PID_FIELD):
                pid = int(line.removeprefix(_PID_FIELD))
                if pid > 0:
                    return (~pid << 3) | 2
    raise ZygoteDied("the kernel does not say the number of a child's process")
