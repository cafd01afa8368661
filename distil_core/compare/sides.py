"""The sides of a comparison: which campaigns a word of the command line stands for."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from distil_core.compare.read import CampaignRun, files_to_read, read_recorded_run, read_run
from distil_core.errors import ConfigError, DataError
from distil_core.lineage.dvc.lock import read_entries
from distil_core.lineage.git import git_or_none
from distil_core.lineage.reproduce.data import SnapshotData
from distil_core.lineage.reproduce.worktree import temporary_worktree
from distil_core.workspace import Workspace

_LOGGER = logging.getLogger(__name__)

HOW_SIDES_ARE_NAMED = (
    "[LABEL=]PLACE[,PLACE..], a place being a workspace's folder, a folder of them (the seeds "
    "of one campaign), or a git revision (FOLDER@REVISION of a workspace, or REVISION of this one)"
)


@dataclass(frozen=True)
class SideText:
    """A side as it was given. places: folders, and revisions as folder and name."""

    label: str
    places: tuple[str, ...]
    here: Path


@dataclass(frozen=True)
class Side:
    """runs: one for each seed, in order of the seeds."""

    label: str
    runs: Sequence[CampaignRun]

    @property
    def seeds(self) -> list[int]:
        return [run.seed for run in self.runs]


def side_text(text: str) -> SideText:
    """A word of the command line; folders in it are meant from where the command was given."""
    label, separator, places = text.partition("=")
    if not separator:
        label, places = text.rstrip("/") or text, text
    return SideText(label, tuple(places.split(",")), Path.cwd())


def read_sides(texts: Sequence[SideText], workspace: Workspace) -> list[Side]:
    """The campaigns of all sides. workspace: the one that a bare revision is of.

    Raises `ConfigError` for a place that is none and for a seed that a side has twice, `DataError`
    for a campaign that has finished nothing, `LineageError` for files that are not the recorded
    ones.
    """
    labels = _distinct([text.label for text in texts])
    return [_side(label, text, workspace) for label, text in zip(labels, texts, strict=True)]


def workspaces_in(folder: Path) -> list[Workspace]:
    """The workspace that the folder is, or those that lie in it, by name."""
    if _is_workspace(folder):
        return [Workspace(folder)]
    below = sorted(folder.iterdir(), key=_in_natural_order) if folder.is_dir() else []
    return [Workspace(path) for path in below if _is_workspace(path)]


def _side(label: str, text: SideText, workspace: Workspace) -> Side:
    runs = [run for place in text.places for run in _runs(text.here, place, workspace)]
    seeds = [run.seed for run in runs]
    if twice := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
        raise ConfigError(
            f"{label}: seed {', '.join(map(str, twice))} is there twice ("
            + ", ".join(run.where for run in runs if run.seed in twice)
            + "): the runs of a side are taken for independent, so give each seed once, or compare "
            "them as sides of their own"
        )
    return Side(label, sorted(runs, key=lambda run: run.seed))


def _runs(here: Path, place: str, workspace: Workspace) -> Iterator[CampaignRun]:
    folder = here / place
    if folder.is_dir():
        found = workspaces_in(folder)
        if not found:
            raise ConfigError(
                f"{folder} is no workspace, and none lies in it (a workspace has dvc.yaml and "
                f"iterations.yaml). Expected {HOW_SIDES_ARE_NAMED}"
            )
        for each in found:
            yield read_run(each, _shown(each.root, here))
        return
    of, separator, revision = place.rpartition("@")
    # `HEAD@{1}` is a revision, and so is `main`.
    if separator and not revision.startswith("{") and _is_workspace(here / of):
        owner = Workspace(here / of)
    else:
        owner, revision = workspace, place
    commit = _commit(owner, revision) if _is_workspace(owner.root) else None
    if commit is None:
        where = f", and no revision of {owner.root}" if _is_workspace(owner.root) else ""
        raise ConfigError(f"{place}: no folder {folder}{where}. Expected {HOW_SIDES_ARE_NAMED}")
    with _at(owner, commit, place) as run:
        yield run


@contextmanager
def _at(workspace: Workspace, commit: str, where: str) -> Iterator[CampaignRun]:
    """The campaign as it was recorded in a commit, its files from DVC's cache or remote."""
    with temporary_worktree(workspace, commit, _LOGGER.warning) as tree:
        if not tree.iterations_file.exists():
            raise ConfigError(f"{where}: that commit ({commit[:10]}) has no iterations.yaml")
        files = files_to_read(tree, read_entries(tree))
        if not files:
            raise DataError(f"{where}: no iteration was finished at that commit ({commit[:10]})")
        data = SnapshotData(workspace, tree)
        data.fetch([locked for each in files.values() for locked in each])
        yield read_recorded_run(workspace, tree, f"{where} ({commit[:10]})", max(files))


def _commit(workspace: Workspace, revision: str) -> str | None:
    if revision.startswith("-"):
        return None
    wanted = ("--end-of-options", f"{revision}^{{commit}}")
    found = git_or_none(workspace.root, "rev-parse", "--verify", "--quiet", *wanted)
    return found.strip() if found else None


def _is_workspace(folder: Path) -> bool:
    return all((folder / name).is_file() for name in ("dvc.yaml", "iterations.yaml"))


def _in_natural_order(path: Path) -> tuple[str, int, str]:
    """seed-9 before seed-10."""
    stem = path.name.rstrip("0123456789")
    digits = path.name[len(stem) :]
    return stem, int(digits) if digits else -1, path.name


def _distinct(labels: Sequence[str]) -> list[str]:
    return [
        label if labels.count(label) == 1 else f"{label} ({labels[: place + 1].count(label)})"
        for place, label in enumerate(labels)
    ]


def _shown(folder: Path, here: Path) -> str:
    """From where the command was given, where it lies below that."""
    return str(folder.relative_to(here)) if folder.is_relative_to(here) else str(folder)
