"""The process in which math-verify runs: a program of its own, started by `_math_process`.

It reads requests from standard input, one JSON object a line, and writes a line at each stage, so
that whoever waits knows what a hang was caused by. Its limits are the kernel's: CPU time of each
stage (a timer whose signal ends the process, also inside a long multiplication, where no Python
handler would run), memory, no files written, no new processes. It dies with its parent.

Nothing of this project is imported here: the program starts in the time that SymPy takes.
"""

import contextlib
import ctypes
import json
import logging
import os
import resource
import signal
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
# A reader that does not fit its runtime fails on some of these, and silently.
_READABLE = ("\\boxed{\\frac{1}{2}}", "\\boxed{50\\%}", "\\boxed{x^2+1}", "so it is 18")
_FORBIDDEN_EVENTS = (
    "os.exec os.fork os.forkpty os.posix_spawn os.spawn os.system pty.spawn subprocess.Popen "
    "socket.connect socket.bind os.remove os.rename os.mkdir os.kill ctypes.dlopen"
)


def main() -> None:
    """Arguments: the parent's process id, bytes of memory, seconds of CPU time of each stage."""
    parent, memory_bytes, cpu_limit_s = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return  # it died before the line above
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC):
        resource.setrlimit(limit, (0, 0))
    try:
        import math_verify
    except Exception as error:
        _say(failed=f"{type(error).__name__}: {error}")
        return
    logging.disable(logging.CRITICAL)
    if unread := [text for text in _READABLE if not _parse(math_verify, text)]:
        _say(failed=f"it cannot read {unread[0]}; the antlr4 runtime may be of another version")
        return
    _forbid()
    _say(ready=True)
    _serve(math_verify, memory_bytes, cpu_limit_s)


def _forbid() -> None:
    """Refuse what no expression needs; the second lock, math-verify evaluates no code."""
    forbidden = frozenset(_FORBIDDEN_EVENTS.split())

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in forbidden:
            raise PermissionError(f"{event} is not allowed here")

    sys.addaudithook(hook)


def _serve(math_verify: Any, memory_bytes: int, cpu_limit_s: float) -> None:
    @lru_cache(maxsize=8)
    def parse_reference(text: str) -> list[Any]:
        return _parse(math_verify, text)

    for line in sys.stdin:
        request = json.loads(line)
        _limit_cpu(cpu_limit_s)
        reference = parse_reference(request["reference"])
        if not reference:
            _say(outcome="unreadable_reference")
            continue
        _say(stage="answer")
        _limit_cpu(cpu_limit_s)
        answer = _parse(math_verify, request["answer"])
        if not answer:
            _say(outcome="unreadable_answer")
            continue
        _say(stage="comparison")
        _limit_cpu(cpu_limit_s)
        equal = math_verify.verify(reference, answer, timeout_seconds=None)
        _limit_cpu(0)
        retiring = _peak_bytes() > memory_bytes // 2
        _say(outcome="equal" if equal else "different", retiring=retiring)
        if retiring:
            return


def _parse(math_verify: Any, text: str) -> list[Any]:
    """Expressions only: a text that is none must not be compared letter by letter."""
    return list(math_verify.parse(text, fallback_mode="no_fallback", parsing_timeout=None))


def _peak_bytes() -> int:
    """Of this program alone: getrusage also counts the process that started it, up to the exec."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def _limit_cpu(seconds: float) -> None:
    signal.setitimer(signal.ITIMER_PROF, seconds)


def _say(**message: Any) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        main()
