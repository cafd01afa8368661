"""The process in which regular expressions are matched; `_pattern_process` starts it.

It reads requests from standard input, one JSON object per line, and answers each with one line. The
kernel enforces the limits: Python's matcher backtracks, holds the interpreter meanwhile, and runs
no signal handler, so that `(a+)+b` on thirty letters would hang a process for good.
"""

import contextlib
import ctypes
import json
import os
import re
import resource
import signal
import sys
from functools import lru_cache
from typing import Any

_PR_SET_PDEATHSIG = 1
_MODES = {"whole": re.Pattern.fullmatch, "start": re.Pattern.match, "anywhere": re.Pattern.search}


@lru_cache(maxsize=64)
def _compiled(pattern: str, flags: int) -> "re.Pattern[str]":
    return re.compile(pattern, flags)


def _outcome(request: dict[str, Any]) -> dict[str, Any]:
    try:
        pattern = _compiled(request["pattern"], request["flags"])
    except (re.error, OverflowError, RecursionError) as error:
        return {"unreadable": f"{error}"[:200]}
    _say(stage="match")
    found = _MODES[request["anchoring"]](pattern, request["text"])
    if found is None:
        return {"matched": None}
    return {"matched": found[0], "answer": found.groupdict().get("answer")}


def _say(**message: Any) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Arguments: the parent's process id, bytes of memory, seconds of CPU time for each match."""
    parent, memory_bytes, cpu_limit_s = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return  # the parent died before the line above
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    for limit, value in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(limit, (value, value))
    for line in sys.stdin:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, cpu_limit_s)
        outcome = _outcome(request)
        signal.setitimer(signal.ITIMER_PROF, 0)
        _say(**outcome)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        main()
