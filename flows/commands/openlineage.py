"""`distil openlineage`: the campaign's lineage as OpenLineage run events."""

import argparse
from pathlib import Path

from distil_core.lineage.openlineage.events import campaign_events
from distil_core.lineage.openlineage.send import is_address, send_events, write_events
from distil_core.workspace import Workspace


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Where the events go, and under which namespace."""
    command.add_argument(
        "--to",
        type=_target,
        required=True,
        metavar="FILE|URL",
        help="a file, one event a line, or a server such as http://localhost:5000",
    )
    command.add_argument("--namespace", help="of jobs and data sets (default distil://CAMPAIGN)")


def run(workspace: Workspace, arguments: argparse.Namespace) -> int:
    """Write or send the events of all finished iterations."""
    events = campaign_events(workspace, arguments.namespace)
    if is_address(arguments.to):
        send_events(events, arguments.to)
    else:
        write_events(events, Path(arguments.to))
    print(f"{len(events)} OpenLineage events of {len(events) // 2} stages: {arguments.to}")
    return 0


def _target(text: str) -> str:
    """A path means what it means where the command was given."""
    return text if is_address(text) else str(Path(text).expanduser().resolve())
