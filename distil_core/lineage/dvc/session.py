"""Open, lock and close a DVC repository, with its failures raised as `LineageError`s.

The locks are DVC's own, so that stages run here and by `dvc repro` exclude each other: the
repository lock for short bookkeeping, and the read-write lock of a stage's paths while it runs.
"""

import logging
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from distil_core.errors import LineageError
from distil_core.files import write_text
from distil_core.lineage.dvc import _internals
from distil_core.lineage.dvc.lock import lock_file, read_entries
from distil_core.lineage.git import no_other_repository
from distil_core.workspace import Workspace

if TYPE_CHECKING:
    from distil_core.lineage.dvc._internals import PipelineStage, Repo

LOCK_TIMEOUT_S = 60.0
"""How long to wait for another DVC command's bookkeeping before a stage starts."""

logger = logging.getLogger(__name__)

# DVC tells holders of its read-write lock apart by process, so that two threads of one process
# would not keep each other out of a path. Stages of one process therefore run one at a time.
_one_at_a_time = threading.RLock()


@contextmanager
def open_repo(workspace: Workspace, address: str) -> "Iterator[Repo]":
    """The workspace's repository under its lock, for work on the stage `address`.

    Whatever DVC raises in the block becomes a `LineageError` that says what to do. Opening the
    repository each time costs 10 ms, and leaves nothing that could get stale between stages.
    """
    _require_initialised(workspace)
    _internals.quiet()
    # A stage runs in the workspace's root, as it does under `dvc repro`; DVC's run cache needs it
    # too. The front doors are there already, so that no other thread sees a change.
    root = workspace.root.resolve()
    with _one_at_a_time, chdir(root), no_other_repository():
        try:
            with _internals.open_repo(root) as repo:
                _lock(repo, address)
                try:
                    _repair_rwlock(repo)
                    with _internals.staged_in_git(repo):
                        yield repo
                finally:
                    _internals.unlock(repo)
        except _internals.error() as error:
            raise LineageError(_explain(error, workspace, address)) from error


def load_stage(repo: "Repo", address: str) -> "PipelineStage":
    """The stage as defined in `dvc.yaml` and recorded in `dvc.lock`."""
    workspace = Workspace(Path(repo.root_dir))
    entries = read_entries(workspace) if lock_file(workspace).exists() else None
    return _internals.load_stage(repo, address, entries)


@contextmanager
def unlocked(repo: "Repo", address: str) -> Iterator[None]:
    """Release the repository in the block, which may take hours, so that others can use it."""
    _internals.unlock(repo)
    _internals.reset(repo)
    try:
        yield
    finally:
        # Without a limit, as giving up would lose the block's work.
        _lock(repo, address, timeout_s=float("inf"))


@contextmanager
def disk_errors(stage: "PipelineStage") -> Iterator[None]:
    """Raise `LineageError` for errors of the file system while DVC stores or restores."""
    try:
        yield
    except OSError as error:
        free_mb = shutil.disk_usage(stage.repo.root_dir).free / 1e6
        raise LineageError(
            f"DVC could not store or restore the outputs of {stage.name}: {error} ({free_mb:.0f} "
            "MB free). What is on disk is kept: repair the cause and run again."
        ) from error


def _lock(repo: "Repo", address: str, timeout_s: float | None = None) -> None:
    """Take the repository lock. Each attempt of DVC lasts three seconds."""
    deadline = time.monotonic() + (LOCK_TIMEOUT_S if timeout_s is None else timeout_s)
    waiting = False
    while True:
        try:
            _internals.lock(repo)
        except _internals.lock_error():
            if time.monotonic() > deadline:
                raise
            if not waiting:
                logger.warning("%s waits for another DVC command to finish", address)
            waiting = True
        else:
            return


def _repair_rwlock(repo: "Repo") -> None:
    """Replace DVC's list of busy paths by an empty one where a process was killed while writing it
    in place.

    DVC writes it only under the repository lock, which is held here, so no other process is writing
    it.
    """
    damaged = _internals.damaged_busy_paths(repo)
    if damaged:
        write_text(damaged, "{}")
        logger.warning("DVC's list of busy paths, left damaged by a killed process, starts anew")


def _require_initialised(workspace: Workspace) -> None:
    # DVC would search the parent folders, and record this workspace's stages in another's.
    if not (workspace.root / ".dvc").is_dir():
        raise LineageError(
            f"no .dvc folder in {workspace.root}: run in a DistIL workspace, which "
            "`distil init` makes; where only the folder is lost, `dvc init` makes it"
        )


_EXPLANATIONS = {
    "busy": (
        "{address} is busy: {error}\n"
        "Wait until the other command has ended (or stop it), then run again."
    ),
    "no stage": (
        "dvc.yaml has no stage {address}: iterations.yaml names no such iteration (or its keys are "
        "not quoted). `distil extend` adds the next one."
    ),
    "no pipeline": (
        "no dvc.yaml in {root} ({error}): run in a DistIL workspace, which `distil init` makes, "
        "or restore the file with `git checkout dvc.yaml`"
    ),
    "ignored by git": (
        "{error} DVC records in it, and git must keep it: find the pattern with `git check-ignore "
        "-v dvc.lock dvc.yaml` and remove it."
    ),
    "no git": (
        "{root} is no git repository ({error}): run `git init` there, or clone the project instead "
        "of unpacking it"
    ),
}


def _explain(error: Exception, workspace: Workspace, address: str) -> str:
    """What happened in the user's terms, with DVC's own message and what to do."""
    refusal = _internals.refusal(error)
    if refusal is None:
        return f"{address}: DVC refused: {error}"
    return _EXPLANATIONS[refusal].format(address=address, root=workspace.root, error=error)
