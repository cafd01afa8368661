"""`distil run --seeds`: one campaign for several seeds, each run as its own process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from distil_core.compare.seeds import SeedWorkspace, make_seed_workspaces, seeds_folder
from distil_core.errors import ConfigError
from distil_core.files import private_folder
from distil_core.lineage.dvc.upgrade import require_present_pipeline
from distil_core.lineage.usable import require_usable
from distil_core.workspace import Workspace

_LOG_LINES = 12
_POLL_S = 0.5
_GRACE_S = 60.0
"""How long a run that was interrupted may take to end its stage."""


@dataclass
class _Run:
    """state: what became of it, in a word."""

    seed: SeedWorkspace
    process: "subprocess.Popen[bytes] | None" = None
    state: str = "waits"
    seconds: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def last_lines(self, count: int) -> list[str]:
        """Of what it said."""
        if not self.seed.log.exists():
            return []
        text = self.seed.log.read_text(encoding="utf-8", errors="replace")
        return [line.strip() for line in text.splitlines() if line.strip()][-count:]


def run_seeds(workspace: Workspace, seeds: str, parallel: int, console: Console) -> int:
    """Run the campaign for each seed and report the means. 0 where all are finished, 1 where one
    failed, 130 after an interruption; what was finished is kept, and asked for again it goes on."""
    if parallel < 1:
        raise ConfigError(f"--parallel: expected at least 1, found {parallel}")
    require_usable(workspace)
    require_present_pipeline(workspace)
    with console.status("making the seeds' workspaces"):
        runs = [_Run(seed) for seed in make_seed_workspaces(workspace, seeds)]
    folder = seeds_folder(workspace)
    new = sum(run.seed.is_new for run in runs)
    console.print(
        f"{len(runs)} seeds in {folder}, {new} of them made now; {parallel} at a time",
        markup=False,
        highlight=False,
    )
    try:
        with _interrupted_by_signals():
            _run_all(runs, parallel, console)
    except KeyboardInterrupt:
        _stop(runs)
        console.print("\nInterrupted. What was finished is kept; run again to go on from there.")
        return 130
    failed = [run for run in runs if run.state == "failed"]
    for run in failed:
        _say_failed(run, console)
    finished = [run.seed.workspace for run in runs if run.state == "finished"]
    if finished:
        from distil_flows.comparison import report_seeds

        report_seeds(workspace, finished, console)
    return 1 if failed else 0


def _run_all(runs: Sequence[_Run], parallel: int, console: Console) -> None:
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while any(run.state in ("waits", "runs") for run in runs):
            running = [run for run in runs if run.state == "runs"]
            for run in running:
                if run.process and run.process.poll() is not None:
                    run.state = "failed" if run.process.returncode else "finished"
                    run.seconds = time.monotonic() - run.started
                    _say_ended(run, console)
            waiting = [run for run in runs if run.state == "waits"]
            for run in waiting[: parallel - sum(run.state == "runs" for run in runs)]:
                _start(run)
            if console.is_terminal:
                live.update(_table(runs), refresh=True)
            time.sleep(_POLL_S)


def _start(run: _Run) -> None:
    """In a session of its own, so that Ctrl-C reaches it from here alone, and once."""
    root = run.seed.workspace.root
    private_folder(root / ".distil")
    with run.seed.log.open("wb") as log, _interrupts_reach_children():
        run.process = subprocess.Popen(
            [sys.executable, "-m", "distil_flows.cli", "run"],
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    run.state, run.started = "runs", time.monotonic()


@contextmanager
def _interrupts_reach_children() -> Iterator[None]:
    """In the background of a script this process ignores Ctrl-C, which a child would inherit: it
    would not heed what `_stop` sends."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _stop(runs: Sequence[_Run]) -> None:
    """As Ctrl-C would in each one's terminal; a second one ends them at once."""
    processes = [run.process for run in runs if run.process and run.process.poll() is None]
    for process in processes:
        process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + _GRACE_S
    try:
        for process in processes:
            process.wait(max(0.0, deadline - time.monotonic()))
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextmanager
def _interrupted_by_signals() -> Iterator[None]:
    """A closed terminal and `kill` end the seeds as Ctrl-C does, and leave none running."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    chosen = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in chosen}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _table(runs: Sequence[_Run]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, expand=True)
    table.add_column("seed", justify="right")
    table.add_column("")
    table.add_column("last said", no_wrap=True, overflow="ellipsis", ratio=1)
    for run in runs:
        said = run.last_lines(1) if run.state == "runs" else []
        table.add_row(str(run.seed.seed), run.state, said[0] if said else "")
    return table


def _say_ended(run: _Run, console: Console) -> None:
    where = run.seed.workspace.root
    text = f"seed {run.seed.seed:<6} {run.state:<9} {run.seconds:7.1f} s   {where}"
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _say_failed(run: _Run, console: Console) -> None:
    console.print(
        f"\nSeed {run.seed.seed} failed; {run.seed.log} ends with:",
        style="red",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    for line in run.last_lines(_LOG_LINES):
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
