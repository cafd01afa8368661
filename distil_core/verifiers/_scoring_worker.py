"""The process in which reasoning-gym's rules score answers; `_scoring_process` starts it.

It reads requests from standard input, one JSON object per line, and answers each with one line. The
kernel enforces the limits: CPU time for each answer (a timer whose signal ends the process, even
during a long multiplication, when no Python handler would run) and memory. The process dies with
its parent.
"""

import ctypes
import json
import os
import resource
import signal
import sys
from functools import cache
from typing import Any

from distil_core.problems.reasoning_gym_library import create_dataset

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Arguments: the parent's process id, bytes of memory, seconds of CPU time for each answer."""
    parent, memory_bytes, cpu_limit_s = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return  # the parent died before the line above
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    for limit, value in ((resource.RLIMIT_AS, memory_bytes), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(limit, (value, value))
    # What a rule prints must not be taken for an outcome.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    dataset = cache(_dataset)
    for line in sys.stdin:
        request = json.loads(line)
        rule = dataset(request["name"], request["config"])
        replies.write(json.dumps({"started": True}) + "\n")
        replies.flush()
        signal.setitimer(signal.ITIMER_PROF, cpu_limit_s)
        outcome = _outcome(rule, request["answer"], request["entry"])
        signal.setitimer(signal.ITIMER_PROF, 0)
        replies.write(json.dumps(outcome) + "\n")
        replies.flush()


def _outcome(rule: Any, answer: str, entry: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"score": float(rule.score_answer(answer, entry))}
    except Exception as error:
        # Rules of many authors, which raise anything on what they did not expect. Whether the
        # problem's own answer raises as well is asked for by the parent.
        return {"raised": f"{type(error).__name__}: {str(error)[:200]}"}


def _dataset(name: str, config: str) -> Any:
    return create_dataset(name, {**json.loads(config), "seed": 0, "size": 1})


if __name__ == "__main__":
    main()
