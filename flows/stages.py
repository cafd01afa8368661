"""The stages as flows and commands use them: found by name, with their code imported at first
use."""

from importlib import import_module
from typing import TYPE_CHECKING

from distil_core.lineage.dvc.stage import is_up_to_date
from distil_core.pipeline import STAGES, last_address
from distil_core.workspace import Workspace

if TYPE_CHECKING:
    from distil_tasks.stage import StageSpec


def stage_spec(name: str) -> "StageSpec":
    """The stage that `tasks/<name>.py` defines. The first one imports torch (seconds)."""
    spec: StageSpec = import_module(f"distil_tasks.{name}").STAGE
    return spec


def stage_versions() -> dict[str, int]:
    """The version of each stage's code, with which new iterations are frozen."""
    return {stage.name: stage_spec(stage.name).version for stage in STAGES}


def is_finished(workspace: Workspace, iteration: int) -> bool:
    """Whether the iteration's policy, evaluation and gate, and everything they came from, are
    current."""
    return is_up_to_date(workspace, last_address(iteration))


def iterations_to_run(workspace: Workspace, iteration: int) -> list[int]:
    """`iteration`, preceded by the unfinished ones before it, back to the last finished one.

    A gate builds on everything before it, so one check for each iteration is enough.
    """
    first = iteration
    while first > 0 and not is_finished(workspace, first - 1):
        first -= 1
    return list(range(first, iteration + 1))
