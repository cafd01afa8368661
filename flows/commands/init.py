"""`distil init DIR`: make a workspace, with git and DVC, from what is installed."""

import argparse
from pathlib import Path

from distil_core.campaign.extends import DEFAULT_PRESET
from distil_core.campaign.load import load_params
from distil_core.campaign.new_workspace import write_workspace
from distil_core.lineage.git import start_repository
from distil_core.lineage.usable import require_usable_folder
from distil_core.workspace import Workspace
from distil_flows.commands import path_from_here


def add_arguments(command: argparse.ArgumentParser) -> None:
    """What the command takes."""
    command.add_argument(
        "directory", type=path_from_here, metavar="DIR", help="the workspace's folder, may be new"
    )
    settings = command.add_mutually_exclusive_group()
    settings.add_argument(
        "--preset",
        default=DEFAULT_PRESET,
        metavar="NAME",
        help=f"settings that params.yaml starts from (default {DEFAULT_PRESET})",
    )
    settings.add_argument(
        "--from",
        type=path_from_here,
        dest="settings",
        metavar="FILE",
        help="a file of settings that becomes params.yaml",
    )
    command.add_argument(
        "--campaign", metavar="NAME", help="the campaign's name (default: the folder's)"
    )


def run(_: Workspace, arguments: argparse.Namespace) -> int:
    """Write the files, start the repository and say what comes next."""
    root: Path = arguments.directory
    require_usable_folder(Workspace(root))
    workspace = write_workspace(root, arguments.preset, arguments.settings, arguments.campaign)
    campaign = load_params(workspace).campaign
    committed = start_repository(root, f"Start of the campaign {campaign}")
    print(f"{root} is a workspace now, of the campaign {campaign}.")
    if not committed:
        print("Its files are staged in git; `git commit` stores them.")
    print(
        f"Next:\n  cd {arguments.directory}\n"
        "  distil run          the whole campaign; what is finished is not run again\n"
        "  distil ui           the lineage of every policy, in MLflow\n"
        "params.yaml holds its settings; `distil settings` lists all there are."
    )
    return 0
