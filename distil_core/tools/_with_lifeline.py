"""Start a program in a group of processes that ends with another process, however that ends.

Run as a file, by its path: `_with_lifeline.py NAME COMMAND ..`. NAME is an abstract Unix socket on
which that process listens; the kernel closes it with the process.
"""

import os
import signal
import socket
import sys
from contextlib import suppress
from typing import NoReturn


def main() -> NoReturn:
    """Become the program, watched by a process beside it."""
    name, *command = sys.argv[1:]
    lifeline = socket.socket(socket.AF_UNIX)
    lifeline.connect(f"\0{name}")
    if os.fork() == 0:
        _watch(lifeline)
    lifeline.close()
    try:
        os.execvp(command[0], command)
    except OSError as error:
        raise SystemExit(f"cannot start {command[0]}: {error.strerror}") from error


def _watch(lifeline: socket.socket) -> NoReturn:
    """Wait for the end of the lifeline, and then end the group."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Whoever reads what the program writes waits for its end, not for this one's.
    for descriptor in (0, 1, 2):
        os.close(descriptor)
    with suppress(ConnectionError):
        lifeline.recv(1)
    os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    main()
