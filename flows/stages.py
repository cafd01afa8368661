"""The stages as the front doors see them: found by name, their code imported when first used."""

from importlib import import_module
from typing import TYPE_CHECKING, cast

from distil_core.lineage.dvc.stage import is_up_to_date, stage_addresses
from distil_core.workspace import Workspace

if TYPE_CHECKING:
    from tasks.stage import StageSpec

ONCE = ("problems", "base")
PER_ITERATION = ("sample", "consult", "tabulate", "train", "evaluate", "gate")


def stage_spec(name: str) -> "StageSpec":
    """The stage `tasks/<name>.py` defines. The first of them imports torch (seconds)."""
    return cast("StageSpec", import_module(f"tasks.{name}").STAGE)


def stage_versions() -> dict[str, int]:
    """Version of each stage's code, as new iterations are frozen with."""
    return {name: stage_spec(name).version for name in (*ONCE, *PER_ITERATION)}


def is_finished(workspace: Workspace, iteration: int) -> bool:
    """Whether the iteration's policy, evaluation and gate, and all they came from, are current."""
    return is_up_to_date(workspace, stage_addresses(iteration)[-1])


def iterations_to_run(workspace: Workspace, iteration: int) -> list[int]:
    """`iteration`, after those before it that are not finished, back to the last finished one.

    Since a gate builds on everything before it, one look per iteration is enough.
    """
    first = iteration
    while first > 0 and not is_finished(workspace, first - 1):
        first -= 1
    return list(range(first, iteration + 1))
