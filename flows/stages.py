"""The stages as the front doors see them: found by name, their code imported when first used."""

from importlib import import_module
from typing import TYPE_CHECKING, cast

from distil_core.lineage.dvc.stage import is_up_to_date
from distil_core.pipeline import STAGES, last_address
from distil_core.workspace import Workspace

if TYPE_CHECKING:
    from tasks.stage import StageSpec


def stage_spec(name: str) -> "StageSpec":
    """The stage `tasks/<name>.py` defines. The first of them imports torch (seconds)."""
    return cast("StageSpec", import_module(f"tasks.{name}").STAGE)


def stage_versions() -> dict[str, int]:
    """Version of each stage's code, as new iterations are frozen with."""
    return {stage.name: stage_spec(stage.name).version for stage in STAGES}


def is_finished(workspace: Workspace, iteration: int) -> bool:
    """Whether the iteration's policy, evaluation and gate, and all they came from, are current."""
    return is_up_to_date(workspace, last_address(iteration))


def iterations_to_run(workspace: Workspace, iteration: int) -> list[int]:
    """`iteration`, after those before it that are not finished, back to the last finished one.

    Since a gate builds on everything before it, one look per iteration is enough.
    """
    first = iteration
    while first > 0 and not is_finished(workspace, first - 1):
        first -= 1
    return list(range(first, iteration + 1))
