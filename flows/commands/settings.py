"""`distil settings`: every setting and every component's options, with their meaning."""

import argparse

from distil_core.campaign.reference import schema_text, settings_page
from distil_core.workspace import Workspace


def add_arguments(command: argparse.ArgumentParser) -> None:
    """What the command takes."""
    command.add_argument(
        "--schema", action="store_true", help="print the JSON schema of params.yaml for an editor"
    )


def run(_: Workspace, arguments: argparse.Namespace) -> int:
    """Print the page or the schema."""
    print(schema_text() if arguments.schema else settings_page(), end="")
    return 0
