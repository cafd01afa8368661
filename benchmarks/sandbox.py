"""Runs/s of small programs: the warm zygote, a cold bubblewrap and a plain `subprocess` each.

    python -m benchmarks.sandbox --programs 1000

Every way runs the same programs and each output is checked. The last row kills the zygote again
and again while programs run: all outputs must still be right.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from distil_core.sandbox import Sandbox

_KILL_EVERY = 100


def _program(number: int) -> tuple[str, bytes]:
    """A program and its right output, different for each number."""
    source = (
        "def collatz(n):\n    steps = 0\n    while n != 1:\n"
        "        n = n // 2 if n % 2 == 0 else 3 * n + 1\n        steps += 1\n    return steps\n"
        f"print({number}, len(str(2 ** {number % 500})), collatz({number + 1}) >= 0)\n"
    )
    return source, f"{number} {len(str(2 ** (number % 500)))} True\n".encode()


def _plain(source: str) -> bytes:
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", source], capture_output=True, timeout=60, check=True
    ).stdout


def measure(name: str, run: Callable[[str], bytes], count: int) -> float:
    """Print a row; returns runs/s. Raises `AssertionError` for a wrong output."""
    times_s = []
    for number in range(count):
        source, right = _program(number)
        before_s = time.perf_counter()
        output = run(source)
        times_s.append(time.perf_counter() - before_s)
        if output != right:
            raise AssertionError(f"{name}: program {number} printed {output!r}, not {right!r}")
    times_s.sort()
    rate = count / sum(times_s)
    p50_ms, p99_ms = 1e3 * statistics.median(times_s), 1e3 * times_s[int(0.99 * (count - 1))]
    print(f"| {name} | {count} | {rate:.1f} | {p50_ms:.1f} | {p99_ms:.1f} |", flush=True)
    return rate


def main() -> None:
    """Print the table and what follows from it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=int, default=1000)
    parser.add_argument("--cold-programs", type=int, default=100)
    arguments = parser.parse_args()
    print("| way | programs | runs/s | p50 ms | p99 ms |\n|---|---|---|---|---|")
    plain = measure("plain subprocess, no isolation", _plain, arguments.programs)
    with Sandbox() as sandbox:
        sandbox.self_test()
        warm = measure(
            "bubblewrap_zygote", lambda text: sandbox.run_program(text).stdout, arguments.programs
        )
        runs = 0

        def run_and_kill(text: str) -> bytes:
            nonlocal runs
            runs += 1
            if runs % _KILL_EVERY == 0 and sandbox.zygote_pid is not None:
                os.kill(sandbox.zygote_pid, signal.SIGKILL)
            return sandbox.run_program(text).stdout

        started = sandbox.num_zygotes_started
        measure(f"the same, killed every {_KILL_EVERY} programs", run_and_kill, arguments.programs)
        replaced = sandbox.num_zygotes_started - started
    with Sandbox(isolation="bubblewrap_cold") as cold_sandbox:
        cold_sandbox.self_test()
        cold = measure(
            "bubblewrap_cold",
            lambda text: cold_sandbox.run_program(text).stdout,
            arguments.cold_programs,
        )
    print(f"\nzygotes replaced: {replaced}; all outputs right")
    print(f"zygote / plain subprocess: {warm / plain:.1f}; zygote / cold: {warm / cold:.1f}")


if __name__ == "__main__":
    main()
