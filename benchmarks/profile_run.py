"""Where the seconds of `make run` go: a sampling profile of the campaign's own process.

`python -m benchmarks.profile_run` runs the campaign of params.yaml, with fewer iterations, in a
temporary folder and from nothing: as `make run` does it, with Prefect, DVC, MLflow and the report.
It does so twice, the second time under py-spy, which looks at the stack of the process 50 times a
second from outside. Counted is the main thread, which all seconds of a run pass through; Prefect's
server is another process, and shows as waiting.
"""

import argparse
import re
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.faults.scene import create, run_campaign
from benchmarks.measure import machine, markdown_table

RATE_HZ = 50
NUM_FUNCTIONS = 12
SMALLEST_SHARE = 0.002
"""Parts with less are one row."""

STARTING = "Python starts and ends"
PREFECT = "Prefect's flow runs, the terminal"
REST = "the rest"
_OWN = ("distil_core", "distil_flows", "distil_tasks", "__main__")
_STAGE = re.compile(r"body \(distil_tasks/(\w+)\.py")
# The innermost of them on the stack says what the run was about.
_PARTS = {
    "_wait_until_ready (distil_flows/api_server.py": "waiting for Prefect's server",
    "_server (distil_flows/api_server.py": "ending Prefect's server",
    "run_stage (distil_core/lineage/dvc/stage.py": "DVC around the stages",
    "is_up_to_date (distil_core/lineage/dvc/stage.py": "DVC around the stages",
    "ensure_snapshot (distil_core/lineage/snapshot/take.py": "git snapshots",
    "record_iteration (distil_core/lineage/mlflow/record.py": "MLflow's record",
    "write_report (distil_core/report/write.py": "report",
}
_ARITHMETIC = ("(torch/nn/", "(torch/autograd/", "(torch/optim/", "(transformers/models/")


@dataclass(frozen=True)
class Stack:
    """A stack of the main thread, outermost frame first, and how often it was seen."""

    frames: tuple[str, ...]
    count: int


def main() -> None:
    """Print the seconds of each part, and the costliest functions."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile_run", description=__doc__)
    parser.add_argument("--iterations", type=int, default=2, help="beside the base policy")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="where to keep py-spy's stacks")
    arguments = parser.parse_args()
    require_py_spy()

    def shorter(params: dict[str, Any]) -> dict[str, Any]:
        return params | {"num_iterations": arguments.iterations}

    with tempfile.TemporaryDirectory() as folder:
        stacks_file = arguments.keep or Path(folder, "stacks.txt")
        plain_s = _run(Path(folder, "plain"), shorter, [])
        profiled_s = _run(Path(folder, "profiled"), shorter, record_command(stacks_file))
        stacks = main_thread(stacks_file.read_text(encoding="utf-8").splitlines())
    print(
        f"{machine()}; the base policy and {arguments.iterations} iterations; {plain_s:.1f} s, "
        f"under the profiler {profiled_s:.1f} s.\n"
    )
    print(parts_table(stacks))
    print(f"\nOutside of the model's arithmetic:\n\n{functions_table(stacks)}")


def require_py_spy() -> str:
    """Where the profiler is; exits with what to do where there is none."""
    program = Path(sys.executable).with_name("py-spy")
    if not program.exists():
        sys.exit(f"no {program}: `make check` installs it")
    return str(program)


def record_command(stacks_file: Path) -> list[str]:
    """What starts a command under the profiler, which writes stacks of every thread, idle too."""
    options = ["--rate", str(RATE_HZ), "--format", "raw", "--idle", "--threads"]
    return [require_py_spy(), "record", *options, "--output", str(stacks_file.resolve()), "--"]


def main_thread(lines: Iterable[str]) -> list[Stack]:
    """The stacks of the main thread among what py-spy wrote: `frame;frame;.. count` a line.

    A thread is called `thread (ID): NAME`, and before Python knows names `thread (ID)`.
    """
    threads = defaultdict(list)
    main = None
    for line in lines:
        names, _, count = line.rpartition(" ")
        thread, *frames = names.split(";")
        number, _, name = thread.partition(": ")
        main = number if name == "MainThread" else main
        threads[number].append(Stack(tuple(frames), int(count)))
    if main is None:
        sys.exit("py-spy saw no main thread; what it said instead stands above")
    return threads[main]


def part_of(frames: Sequence[str]) -> str:
    """The part of the run that a stack belongs to. An import is one wherever it happens."""
    if not frames:
        return STARTING
    imported = _imported(frames)
    if imported:
        return f"importing {imported}"
    for frame in reversed(frames):
        stage = _STAGE.match(frame)
        if stage:
            return f"stage {stage[1]}"
        for start, part in _PARTS.items():
            if frame.startswith(start):
                return part
    return PREFECT


def _imported(frames: Sequence[str]) -> str | None:
    """The outermost package that is being imported and not our own; None outside of imports."""
    starts = [i for i, frame in enumerate(frames) if frame.startswith("_find_and_load ")]
    if not starts:
        return None
    modules = [frame for frame in frames[starts[0] :] if frame.startswith("<module> ")]
    packages = [re.split(r"[/.:]", module.removeprefix("<module> ("))[0] for module in modules]
    return next((package for package in packages if package not in _OWN), "DistIL's own modules")


def is_arithmetic(frames: Sequence[str]) -> bool:
    """Whether torch computes on behalf of a model, its gradient or an optimizer."""
    return not _imported(frames) and any(kind in frame for frame in frames for kind in _ARITHMETIC)


def parts_table(stacks: Sequence[Stack]) -> str:
    """Seconds of each part, most first, and how many of them are the model's arithmetic."""
    parts: Counter[str] = Counter()
    arithmetic: Counter[str] = Counter()
    for stack in stacks:
        parts[part_of(stack.frames)] += stack.count
        if is_arithmetic(stack.frames):
            arithmetic[part_of(stack.frames)] += stack.count
    total = parts.total()
    large = {part for part, count in parts.items() if count >= SMALLEST_SHARE * total}
    rest = sum(count for part, count in parts.items() if part not in large)
    rows = [
        _part_row(part, parts[part], arithmetic[part], total)
        for part, _ in parts.most_common()
        if part in large
    ]
    rows.append(_part_row(REST, rest, 0, total))
    rows.append(_part_row("**all**", total, arithmetic.total(), total))
    return markdown_table(["", "s", "share", "of it the model's arithmetic s"], rows)


def _part_row(part: str, count: int, arithmetic: int, total: int) -> list[str]:
    share = f"{count / total:.1%}"
    return [part, _seconds(count), share, _seconds(arithmetic) if arithmetic else ""]


def functions_table(stacks: Sequence[Stack]) -> str:
    """The functions with the most seconds of their own, outside of the model's arithmetic."""
    own: Counter[tuple[str, str]] = Counter()
    for stack in stacks:
        if stack.frames and not is_arithmetic(stack.frames):
            own[part_of(stack.frames), _function(stack.frames[-1])] += stack.count
    rows = [
        [f"{part}: {name}", _seconds(count)]
        for (part, name), count in own.most_common(NUM_FUNCTIONS)
    ]
    return markdown_table(["", "s"], rows)


def _function(frame: str) -> str:
    """py-spy's `name (path/file.py:line)` without the line."""
    name, _, place = frame.rpartition(" (")
    return f"`{name} ({place.rstrip(')').partition(':')[0]})`"


def _seconds(count: int) -> str:
    return f"{count / RATE_HZ:.2f}"


def _run(
    root: Path, change: Callable[[dict[str, Any]], dict[str, Any]], prefix: Sequence[str]
) -> float:
    """Seconds of a campaign from nothing, started through `prefix`."""
    create(root, change)
    started = time.monotonic()
    result = run_campaign(root, prefix, timeout_s=None)
    if result.status:
        sys.exit(f"the campaign failed with exit status {result.status}:\n{result.output[-3000:]}")
    return time.monotonic() - started


if __name__ == "__main__":
    main()
