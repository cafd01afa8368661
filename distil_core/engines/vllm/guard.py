"""`python -m distil_core.engines.vllm.guard FOLDER COMMAND..`: run COMMAND, and end it with the
parent.

The guard leads its own session and has a pipe from the parent as standard input. When the pipe
closes, because the parent closed it or was killed in any way, or when COMMAND ends by itself,
FOLDER is removed and the whole process group is killed: otherwise vLLM's server would leave its
workers behind.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Never returns: the guard belongs to the group that it kills."""
    if os.getpgrp() != os.getpid():
        sys.exit("the guard must lead its own process group: start it in a new session")
    libc = ctypes.CDLL(None, use_errno=True)

    def end_with_guard() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    # No thread runs yet.
    server = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL, preexec_fn=end_with_guard)  # noqa: PLW1509
    threading.Thread(target=_wait_for_parent, daemon=True).start()
    code = server.wait()
    print(f"the server ended with code {code}", flush=True)
    _kill_group()


def _wait_for_parent() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    _kill_group()


def _kill_group() -> None:
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main()
