"""`distil track`: finished iterations in a tracker beside MLflow."""

import argparse

from distil_core.lineage.trackers.base import NAMES
from distil_core.lineage.trackers.track import track
from distil_core.workspace import Workspace


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Which tracker, and which project in it."""
    command.add_argument("tracker", choices=NAMES)
    command.add_argument("--project", help="in the tracker (default: the campaign's name)")


def run(workspace: Workspace, arguments: argparse.Namespace) -> int:
    """Write what is not there yet."""
    count, where = track(workspace, arguments.tracker, arguments.project)
    print(f"{arguments.tracker}: {count} iterations written now. To see them: {where}")
    return 0
