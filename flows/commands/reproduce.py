"""`distil reproduce CAMPAIGN/ITERATION`: run it again from its snapshot, and report what is
equal."""

import argparse
import re
import signal
import sys
from typing import NoReturn

from rich import box
from rich.console import Console
from rich.table import Table

from distil_core.lineage.environment import libraries, package, processor
from distil_core.lineage.reproduce.code import holds_own_code
from distil_core.lineage.reproduce.rerun import Comparison, reproduce, require_snapshot
from distil_core.lineage.snapshot.take import snapshot_notes
from distil_core.workspace import Workspace

DIFFERS = 3
"""Exit status when all ran and an artifact is another; 1 means that it could not be done."""

_TARGET = re.compile(r"([a-z0-9][a-z0-9-]{0,62})/(\d{1,3})")
_WIDTH = 100


def target(text: str) -> tuple[str, int]:
    """Campaign and iteration of an argument, for argparse."""
    match = _TARGET.fullmatch(text)
    if not match:
        raise argparse.ArgumentTypeError(
            f"expected CAMPAIGN/ITERATION such as chain-arithmetic/3, found {text!r}"
        )
    return match[1], int(match[2])


def add_arguments(command: argparse.ArgumentParser) -> None:
    """What the command takes."""
    command.add_argument(
        "target", type=target, metavar="CAMPAIGN/ITERATION", help="such as chain-arithmetic/3"
    )
    command.add_argument(
        "--from-scratch", action="store_true", help="run all it came from again as well"
    )
    command.add_argument("--keep", action="store_true", help="leave the worktree to look at")


def run(workspace: Workspace, arguments: argparse.Namespace) -> int:
    """0 when every artifact is equal, else `DIFFERS`; raises `LineageError`."""
    # The worktree is also removed when the process is ended from outside.
    signal.signal(signal.SIGTERM, _end)
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    campaign, iteration = arguments.target
    snapshot = require_snapshot(workspace, campaign, iteration)

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    say(f"{campaign}/{iteration}: {snapshot.ref}, commit {snapshot.commit}")
    own_code = holds_own_code(workspace, snapshot)
    if own_code:
        say("runs the code of DistIL that the snapshot holds")
    for line in _environment_lines(snapshot_notes(workspace, snapshot), own_code):
        say(line)
    compared = reproduce(
        workspace, snapshot, iteration, say, arguments.from_scratch, arguments.keep
    )
    console.print(_table(compared))
    different = [comparison for comparison in compared if not comparison.equal]
    for comparison in different:
        say(f"{comparison.path}, largest differences:")
        for line in comparison.differences or ("it was not made",):
            say(f"  {line}")
    if different:
        say(f"{len(different)} of {len(compared)} artifacts differ from the recorded ones.")
        return DIFFERS
    say(f"All {len(compared)} artifacts are equal to the recorded ones, to the bit.")
    return 0


def _environment_lines(notes: dict[str, str], own_code: bool) -> list[str]:
    here = {"cpu": processor(), "libraries": libraries()}
    if not own_code:
        here["distil"] = package()
    lines = []
    for name, present in here.items():
        recorded = notes.get(name)
        lines.append(f"snapshot taken with {name}: {recorded or 'not known'}")
        if recorded and recorded != present:
            lines.append(f"  Warning: other {name} here, so digests may differ: {present}")
    return lines


def _table(compared: list[Comparison]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("artifact", "expected", "got", "equal"):
        table.add_column(heading, no_wrap=True)
    for comparison in compared:
        equal = "yes" if comparison.equal else "NO"
        table.add_row(comparison.path, comparison.expected[:12], comparison.got[:12], equal)
    return table


def _end(*_: object) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)
