"""`distil compare`: campaigns beside each other, paired where problems or seeds are the same."""

import argparse
from pathlib import Path

from rich.console import Console

from distil_core.workspace import Workspace
from distil_flows.commands import path_from_here


def add_arguments(command: argparse.ArgumentParser) -> None:
    """What the command takes."""
    from distil_core.compare.sides import HOW_SIDES_ARE_NAMED, side_text

    command.add_argument(
        "sides",
        nargs="+",
        type=side_text,
        metavar="SIDE",
        help=f"{HOW_SIDES_ARE_NAMED}; the first one is what the others are compared with",
    )
    command.add_argument(
        "--output",
        type=path_from_here,
        default=Path("comparison.html").absolute(),
        metavar="FILE",
        help="where the page is written (default comparison.html, here)",
    )
    command.add_argument(
        "--no-mlflow", action="store_true", help="do not record the comparison in MLflow"
    )


def run(workspace: Workspace, arguments: argparse.Namespace) -> int:
    """Show, write and record it."""
    from distil_core.compare.compared import Comparison
    from distil_core.compare.sides import read_sides
    from distil_core.compare.write import owner_of_record, write_page
    from distil_flows.comparison import finish, show_comparison

    console = Console()
    with console.status("reading the campaigns"):
        comparison = Comparison(read_sides(arguments.sides, workspace))
    show_comparison(comparison, console)
    title = " and ".join(side.label for side in comparison.sides)
    page = write_page(comparison, title, arguments.output)
    if arguments.no_mlflow:
        console.print(f"\nThe page: {page}", markup=False, highlight=False, soft_wrap=True)
    else:
        finish(owner_of_record(workspace, comparison), comparison, title, page, console)
    return 0
