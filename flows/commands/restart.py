"""`distil restart`: freeze params.yaml afresh as iterations 0 to num_iterations."""

import argparse
from pathlib import Path

from distil_core.campaign.iterations import restart
from distil_core.lineage.dvc.upgrade import require_present_pipeline
from distil_core.workspace import Workspace
from distil_flows.commands.freezing import add_set, params_text, say_frozen, say_params_changed
from distil_flows.stages import stage_versions


def add_arguments(command: argparse.ArgumentParser) -> None:
    """What the command takes."""
    command.add_argument(
        "--params",
        type=Path,
        metavar="FILE",
        help="settings that take the place of params.yaml first, such as presets/science.yaml, or "
        "the name of a preset; the former ones are kept",
    )
    add_set(command)


def run(workspace: Workspace, arguments: argparse.Namespace) -> int:
    """Freeze params.yaml as a campaign's iterations and say so."""
    require_present_pipeline(workspace)
    former = params_text(workspace)
    iterations = restart(workspace, stage_versions(), arguments.params, arguments.overrides)
    say_params_changed(workspace, former, arguments.params or "--set")
    say_frozen(workspace, iterations)
    return 0
