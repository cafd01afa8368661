"""The process that reads and compares expressions, a program that `_math_process` starts.

It reads requests from standard input, one JSON object per line, and writes a line at each stage, so
that the parent knows which stage a hang belongs to. LaTeX is parsed by latex2sympy, the parser of
math-verify. The kernel enforces the limits: CPU time for each stage (a timer whose signal ends the
process, even during a long multiplication, when no Python handler would run), memory, no writing of
files, no new processes. The process dies with its parent.

Only `_math_compare` is imported from this project, by its path, so that the program starts in the
time that SymPy takes.
"""

import contextlib
import ctypes
import importlib.util
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
# A parser that does not match its runtime library fails on some of these.
_READABLE = (r"\frac{1}{2}", r"\sqrt {2}", r"x^{2}+1", r"\sin (2x)")
_FORBIDDEN_EVENTS = (
    "os.exec os.fork os.forkpty os.posix_spawn os.spawn os.system pty.spawn subprocess.Popen "
    "socket.connect socket.bind os.remove os.rename os.mkdir os.kill ctypes.dlopen"
)


def main() -> None:
    """Arguments: the parent's process id, bytes of memory, seconds of CPU time for each stage."""
    parent, memory_bytes, cpu_limit_s = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return  # the parent died before the line above
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC):
        resource.setrlimit(limit, (0, 0))
    try:
        reader = _Reader()
        compare = _sibling("_math_compare")
        for text in _READABLE:
            reader(text)
    except Exception as error:
        _say(failed=f"{type(error).__name__}: {error}")
        return
    logging.disable(logging.CRITICAL)
    _forbid()
    _say(ready=True)
    _serve(reader, compare, memory_bytes, cpu_limit_s)


def _forbid() -> None:
    """Refuse operations that no expression needs. A second safeguard: the parser evaluates no
    code."""
    forbidden = frozenset(_FORBIDDEN_EVENTS.split())

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in forbidden:
            raise PermissionError(f"{event} is not allowed here")

    sys.addaudithook(hook)


class _Reader:
    """Parses LaTeX to a SymPy expression. Raises whatever the parser raises."""

    def __init__(self) -> None:
        from latex2sympy2_extended import NormalizationConfig, latex2sympy
        from latex2sympy2_extended.latex2sympy2 import ConversionConfig

        self._latex2sympy = latex2sympy
        self._normalization = NormalizationConfig(
            basic_latex=True, malformed_operators=True, boxed="none"
        )
        self._conversion = ConversionConfig(
            interpret_as_mixed_fractions=False, lowercase_symbols=False
        )

    def __call__(self, latex: str) -> Any:
        found = self._latex2sympy(
            latex, normalization_config=self._normalization, conversion_config=self._conversion
        )
        if found is None:
            raise ValueError(f"no expression in {latex}")
        return found


def _sibling(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    if spec is None or spec.loader is None:
        raise ImportError(f"{name}.py is missing")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _serve(reader: _Reader, compare: Any, memory_bytes: int, cpu_limit_s: float) -> None:
    @lru_cache(maxsize=8)
    def read_reference(content: str) -> Any:
        return _read(compare, reader, json.loads(content))

    for line in sys.stdin:
        request = json.loads(line)
        _limit_cpu(cpu_limit_s)
        reference = read_reference(json.dumps(request["reference"]))
        if reference is None:
            _say(outcome="unreadable_reference")
            continue
        _say(stage="answer")
        _limit_cpu(cpu_limit_s)
        answer = _read(compare, reader, request["answer"])
        if answer is None:
            _say(outcome="unreadable_answer")
            continue
        _say(stage="comparison")
        _limit_cpu(cpu_limit_s)
        equal = _compared(compare, reference, answer, request)
        _limit_cpu(0)
        retiring = _peak_bytes() > memory_bytes // 2
        _say(outcome="equal" if equal else "different", retiring=retiring)
        if retiring:
            return


def _read(compare: Any, reader: _Reader, node: dict[str, Any]) -> Any:
    """The node with parsed leaves; None for an expression that the parser does not accept."""
    try:
        return compare.parsed(node, reader)
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception:
        # The generated parser raises whatever its runtime and SymPy's constructors raise.
        return None


def _compared(compare: Any, reference: Any, answer: Any, request: dict[str, Any]) -> bool:
    try:
        if request["factor"] != "1":
            answer = compare.scaled(answer, request["factor"])
        return bool(compare.Comparison(request["allow_unevaluated"]).equal(reference, answer))
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception:
        # Two expressions that SymPy cannot combine (a matrix and a number) are different.
        return False


def _peak_bytes() -> int:
    """The peak memory of this program alone: getrusage would also count its parent, up to the
    exec."""
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
