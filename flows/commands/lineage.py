"""`distil lineage`: what a model was made from, or which models a dataset led to."""

import argparse
import sys

from distil_core.lineage.view.read import read_lineage
from distil_core.lineage.view.text import as_dot, as_text
from distil_core.workspace import Workspace


def add_arguments(command: argparse.ArgumentParser) -> None:
    """What the command takes."""
    command.add_argument(
        "artifact",
        help="a registered version (NAME/3, NAME@champion), a policy (policy-003), a path of "
        "dvc.lock, or the first 6 or more digits of an md5",
    )
    command.add_argument(
        "--forward",
        action="store_true",
        default=None,
        help="what was made from it (a dataset is always shown so, unless --backward)",
    )
    command.add_argument(
        "--backward", dest="forward", action="store_false", help="what it was made from"
    )
    command.add_argument("--dot", action="store_true", help="print the graph for Graphviz")


def run(workspace: Workspace, arguments: argparse.Namespace) -> int:
    """Print the lineage; 1 where DVC and MLflow disagree about it."""
    lineage = read_lineage(workspace, arguments.artifact, arguments.forward)
    print(as_dot(lineage) if arguments.dot else as_text(lineage))
    if arguments.dot:
        for problem in lineage.disagreements:
            print(f"distil: DVC and MLflow disagree: {problem}", file=sys.stderr)
    return 1 if lineage.disagreements else 0
