"""An example made small, and an iteration of it stage by stage, without any flow."""

import importlib
import sys
from pathlib import Path
from typing import Any

from example_data import ROWS, example_settings, shrink, use_cached_files, use_own_files

from distil_core.campaign import parse_iteration_params
from distil_core.progress import no_progress
from distil_core.workspace import Workspace

sys.path.append(str(Path(__file__).parents[1] / "flows"))
from front_door_scratch import tiny


def small(name: str, folder: Path, checkpoint: Path) -> dict[str, Any]:
    """The example's settings with few and short of everything, its paths leading to small files."""
    values = example_settings(name)
    if values["base"]["kind"] == "from_scratch":
        return tiny(values)
    if name == "hugging-face-hub":
        use_cached_files(values, folder / "hub", ROWS[name])
    elif name in ROWS:
        use_own_files(values, folder, ROWS[name])
    values["problems"]["num_train"] = "all" if name in ROWS else 6
    shrink(values, checkpoint)
    return values


def run_iteration(workspace: Workspace, values: dict[str, Any]) -> None:
    for iteration, stages in enumerate(
        (
            ("problems", "base", "evaluate"),
            ("sample", "consult", "tabulate", "train", "evaluate", "gate"),
        )
    ):
        workspace.iteration_dir(iteration).mkdir(parents=True, exist_ok=True)
        for stage in stages:
            run_stage(stage, workspace, values, iteration)


def run_stage(name: str, workspace: Workspace, values: dict[str, Any], iteration: int) -> None:
    frozen = {**values, "iteration": iteration, "stage_versions": {}}
    body = importlib.import_module(f"distil_tasks.{name}").body
    body(workspace, parse_iteration_params(frozen, "test"), no_progress)
