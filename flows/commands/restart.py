"""`distil restart`: freeze params.yaml afresh as iterations 0 to num_iterations."""

import argparse
from pathlib import Path

from distil_core.campaign.inputs import require_inputs
from distil_core.campaign.iterations import restart
from distil_core.lineage.dvc.former import FormerIterations, frozen_files, set_aside
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
    command.add_argument(
        "--params",
        type=Path,
        metavar="FILE",
        help="settings that take the place of params.yaml first, such as presets/science.yaml, or "
        "the name of a preset; the former ones are kept",
    )
    add_set(command)
    add_no_check(command)


def run(workspace: Workspace, arguments: argparse.Namespace) -> int:
    """Freeze params.yaml as a campaign's iterations and say so."""
    require_present_pipeline(workspace)
    former, frozen = params_text(workspace), frozen_files(workspace)
    examine = None if arguments.no_check else require_inputs
    iterations = restart(
        workspace, stage_versions(), arguments.params, arguments.overrides, examine
    )
    say_params_changed(workspace, former, arguments.params or "--set")
    _say_set_aside(workspace, set_aside(workspace, iterations[-1], frozen))
    say_frozen(workspace, iterations)
    return 0


def _say_set_aside(workspace: Workspace, former: FormerIterations | None) -> None:
    """Say what became of a longer campaign's last iterations."""
    if former is None:
        return
    first, last = former.iterations[0], former.iterations[-1]
    numbers = f"iterations {first} to {last}" if last > first else f"iteration {first}"
    moved = (
        f", and {former.num_moved} files or folders that DVC's cache lacks"
        if former.num_moved
        else ""
    )
    kept = workspace.relative(former.kept)
    print(
        f"What the campaign before had as {numbers} is set aside: {kept} has its dvc.lock and "
        f"settings{moved}. With these two back in place, `dvc checkout` brings back all that is in "
        "DVC's cache. Delete the folder when nobody needs it."
    )
