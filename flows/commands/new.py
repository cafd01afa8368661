"""`distil new`: a package with a component of one's own, which passes its contract as written."""

import argparse
from pathlib import Path

from distil_core.component_kinds import KINDS
from distil_core.workspace import Workspace
from distil_flows.commands import path_from_here

_KINDS = tuple(kind.replace(" ", "-") for kind in KINDS)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """What the command takes."""
    command.add_argument("kind", choices=_KINDS, metavar="KIND", help=", ".join(_KINDS))
    command.add_argument("name", metavar="NAME", help="of the component and of its package")
    command.add_argument(
        "--directory",
        type=path_from_here,
        metavar="DIR",
        help="the folder to make for it; here, with the package's name, where it is left out",
    )
    # Where the command was given, which may be below a workspace's root.
    command.set_defaults(here=Path.cwd())


def run(_: Workspace, arguments: argparse.Namespace) -> int:
    """Write it, and say how to try it."""
    from distil_core.scaffold import new_package

    made = new_package(
        arguments.kind.replace("-", " "),
        arguments.name,
        arguments.directory or arguments.here / arguments.name.replace("_", "-"),
    )
    print(
        f"{made.folder} has a package with the {made.kind} {made.name!r}, which works as it is: "
        f"{made.component}\n\n"
        f"  cd {made.folder}\n"
        "  pip install --no-build-isolation -e .\n"
        "  pytest\n\n"
        "What a component must keep to is in docs/components.md."
    )
    return 0
