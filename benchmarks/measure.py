"""What benchmarks share: commands run in turn, each a process of its own, and Markdown tables."""

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

PEERS_PYTHON = Path(".venv-peers/bin/python")


@dataclass(frozen=True)
class Run:
    """What one process took. cpu_s: by the operating system once it had ended. peak_mb: as the
    process itself found with `own_peak_mb`. figures: the last line that it printed, read as JSON.
    """

    cpu_s: float
    peak_mb: float
    figures: dict[str, Any]


def run_once(command: Sequence[str], num_threads: int = 1) -> Run:
    """Run a command to its end; exits with the end of its standard error where it fails."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(num_threads),
        "TRL_EXPERIMENTAL_SILENCE": "1",
    }
    with (
        tempfile.TemporaryFile("w+") as output,
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdout=output, stderr=errors, env=environment) as process,
    ):
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{errors.read()[-3000:]}")
        figures = json.loads(output.read().splitlines()[-1])
    return Run(usage.ru_utime + usage.ru_stime, figures.pop("peak_mb"), figures)


def own_peak_mb() -> float:
    """The most memory that this process held at once. Not `ru_maxrss`, which on Linux counts what
    the process that started this one held then."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) / 2**10


def run_in_turn(
    commands: Mapping[str, Sequence[str]], repeats: int, num_threads: int = 1
) -> dict[str, list[Run]]:
    """Each command `repeats` times, A B C A B C .., so that a machine whose speed drifts is as
    fast for all of them."""
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    for _ in range(repeats):
        for name, command in commands.items():
            runs[name].append(run_once(command, num_threads))
    return runs


def minimum_of(runs: Sequence[Run], figure: Callable[[Run], float]) -> float:
    """The smallest of the runs' figures: what the work takes where nothing else disturbs it."""
    return min(map(figure, runs))


def median_of(runs: Sequence[Run], figure: Callable[[Run], float]) -> float:
    """The median of the runs' figures."""
    return median(map(figure, runs))


def require_peers() -> str:
    """The Python of the peers' environment; exits with what to do where there is none."""
    if not PEERS_PYTHON.exists():
        sys.exit(f"no {PEERS_PYTHON}: `make peers` installs what this is compared with")
    return str(PEERS_PYTHON)


def require_device(device: str) -> None:
    """Exit with what to do where `--device cuda` is asked for and torch finds no such device."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        sys.exit(
            f"--device cuda needs a CUDA device, and torch {torch.__version__} finds none: leave "
            "the option out, or run this on a machine with a GPU, its driver and a CUDA build of "
            "torch"
        )


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first column is text, the others are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> str:
    """The processor and its cores, for the line above a table."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return f"{model}, {os.cpu_count()} cores"
