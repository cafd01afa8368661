"""The contract of a tracker, and the ones there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

from distil_core.errors import ExportError
from distil_core.workspace import Workspace

NAMES = ("trackio", "wandb")
"""Each a module of this package with `open_tracker`, and an extra of pyproject.toml."""


@dataclass(frozen=True)
class TrackedRun:
    """A run to write. id: unique in its project, the same whoever writes it. settings: dotted key
    to text. points: figures by step, ascending; several with one step are of that one."""

    id: str
    name: str
    group: str
    settings: Mapping[str, str]
    points: Sequence[tuple[int, Mapping[str, float]]]


class Tracker(Protocol):
    """Writes runs into one project of a store."""

    def write(self, run: TrackedRun) -> None:
        """Write the run's points; those of a run that is there are added to it. Raises
        `ExportError` where the store does not take them all."""
        ...

    def where(self) -> str:
        """How a person finds what was written."""
        ...


def open_tracker(name: str, workspace: Workspace, project: str) -> Tracker:
    """The tracker of that name. Raises `ExportError` where its package is not installed."""
    try:
        import_module(name)
    except ImportError as error:
        raise ExportError(f"{name} is not installed: `pip install 'distil[{name}]'`") from error
    tracker: Tracker = import_module(f"{__package__}.{name}").open_tracker(workspace, project)
    return tracker
