"""`distil extend`: add iterations with the settings of params.yaml; earlier ones stay."""

import argparse

from distil_core.campaign.inputs import require_inputs_again
from distil_core.campaign.iterations import extend
from distil_core.lineage.dvc.upgrade import require_present_pipeline
from distil_core.workspace import Workspace
from distil_flows.commands.freezing import (
    add_no_check,
    add_set,
    params_text,
    say_frozen,
    say_params_changed,
)
from distil_flows.stages import stage_versions


def add_arguments(command: argparse.ArgumentParser) -> None:
    """What the command takes."""
    command.add_argument("--count", type=int, default=1, metavar="K", help="how many (default 1)")
    add_set(command)
    add_no_check(command)


def run(workspace: Workspace, arguments: argparse.Namespace) -> int:
    """Freeze params.yaml as the next iterations and say so."""
    require_present_pipeline(workspace)
    former = params_text(workspace)
    examine = None if arguments.no_check else require_inputs_again
    iterations = extend(workspace, stage_versions(), arguments.count, arguments.overrides, examine)
    say_params_changed(workspace, former, "--set")
    say_frozen(workspace, iterations)
    return 0
