"""`distil samples`: a page to look at what was sampled, what was said of it, and its credit."""

import argparse
from pathlib import Path

from distil_core.report.samples import write_samples
from distil_core.report.samples.write import MAX_ROWS
from distil_core.workspace import Workspace


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Which iteration, where to, and how much of it."""
    command.add_argument(
        "--iteration", type=int, metavar="N", help="whose samples (default: the last that has some)"
    )
    command.add_argument(
        "--output",
        type=lambda text: Path(text).absolute(),
        metavar="FILE",
        help="the page (default: samples.html in the workspace)",
    )
    command.add_argument(
        "--max-rows",
        type=int,
        default=MAX_ROWS,
        metavar="K",
        help=f"of each table, from its beginning (default {MAX_ROWS})",
    )


def run(workspace: Workspace, arguments: argparse.Namespace) -> int:
    """Write the page and say where."""
    path, counts = write_samples(
        workspace, arguments.iteration, arguments.output, max(1, arguments.max_rows)
    )
    shown = ", ".join(f"{count} of {name}" for name, count in counts.items())
    print(f"Samples ({shown}): {path}")
    return 0
