"""A second user id for programs, where the host runs as root.

A program run by root would own the host's device nodes and escape the limit on threads, in any
namespace. So bubblewrap, which needs root only to see this Python, waits until its user namespace
maps one more user: an id that nobody else has. The zygote then becomes that user, and nothing
inside the sandbox has a capability to go back.
"""

import contextlib
import json
import os
import random
import select

from distil_core.errors import SandboxError
from distil_core.sandbox.inside.confine import NOBODY

# Above the ids of people, services and containers, and within a signed 32-bit number.
_FIRST_ID, _NUM_IDS = 2_000_000_000, 1 << 24
# Where a container has no such range: its last ids, except 'nobody' and its group.
_NUM_LAST_IDS = 500
_SMALLEST_RANGE = 1000
_TIMEOUT_S = 60.0


def other_user() -> int | None:
    """An unused user id for one zygote. None where the host's user is not root, or is root of a
    container that has no second id (and so is not the host's root)."""
    if os.geteuid() != 0:
        return None
    with open("/proc/self/uid_map", encoding="ascii") as users:
        ranges = [(int(first), int(count)) for first, _, count in map(str.split, users)]
    # Not from the run's seed: no result depends on it.
    pick = random.SystemRandom().randrange
    if any(first <= _FIRST_ID and first + count >= _FIRST_ID + _NUM_IDS for first, count in ranges):
        return _FIRST_ID + pick(_NUM_IDS)
    first, count = max(ranges)
    if count < _SMALLEST_RANGE:
        return None
    return first + count - 4 - pick(_NUM_LAST_IDS)


class UserMap:
    """The user map of one bubblewrap's namespace. Pass `arguments` on its command line together
    with the descriptors `pass_fds`; call `write` after it has started, and `close` at the end."""

    def __init__(self, user: int):
        self._user = user
        self._info, info = os.pipe()
        block, self._unblock = os.pipe()
        self.pass_fds: tuple[int, ...] = (info, block)
        self.arguments = ("--info-fd", str(info), "--userns-block-fd", str(block))

    def write(self) -> None:
        """Map root to root, and the program's user. Does nothing where bubblewrap has ended
        already. Raises `SandboxError` where root lacks the capabilities for it."""
        self._close_passed()
        pid = self._read_pid()
        if pid is None:
            return
        lines = f"0 0 1\n{NOBODY} {self._user} 1\n"
        try:
            for kind in ("gid_map", "uid_map"):
                with open(f"/proc/{pid}/{kind}", "w", encoding="ascii") as file:
                    file.write(lines)
        except PermissionError as error:
            raise SandboxError(
                "the sandbox does not start: this root may not give programs another user id "
                f"({error}), as their isolation needs: allow the capabilities CAP_SETUID and "
                "CAP_SETGID, or run as an ordinary user"
            ) from error
        except (FileNotFoundError, ProcessLookupError):
            return
        with contextlib.suppress(BrokenPipeError):
            os.write(self._unblock, b"1")

    def close(self) -> None:
        """Close every descriptor."""
        self._close_passed()
        for descriptor in (self._info, self._unblock):
            os.close(descriptor)

    def _close_passed(self) -> None:
        for descriptor in self.pass_fds:
            os.close(descriptor)
        self.pass_fds = ()

    def _read_pid(self) -> int | None:
        """The child's process id on the host, as bubblewrap reports it; None where bubblewrap
        ended."""
        text = b""
        poll = select.poll()
        poll.register(self._info, select.POLLIN)
        while not text.rstrip().endswith(b"}"):
            if not poll.poll(_TIMEOUT_S * 1000):
                raise SandboxError(f"bubblewrap said nothing within {_TIMEOUT_S:g} s")
            part = os.read(self._info, 1 << 12)
            if not part:
                return None
            text += part
        return int(json.loads(text)["child-pid"])
