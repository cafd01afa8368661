"""One DVC repository, opened, locked and closed; its failures told as `LineageError`s.

The locks are DVC's own, so that stages run here and by `dvc repro` exclude each other: the
repository lock for short bookkeeping, and the read-write lock of a stage's paths while it runs.
"""

import logging
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from distil_core.errors import LineageError
from distil_core.files import write_text
from distil_core.lineage.dvc.lock import read_entries
from distil_core.lineage.git import no_other_repository
from distil_core.workspace import Workspace

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import PipelineStage

LOCK_TIMEOUT_S = 60.0
"""How long to wait for another DVC command's bookkeeping before a stage starts."""

logger = logging.getLogger(__name__)

# DVC tells holders of its read-write lock apart by process, so that two threads of one process
# would not keep each other out of a path. Stages of one process therefore run one at a time.
_one_at_a_time = threading.RLock()


@contextmanager
def open_repo(workspace: Workspace, address: str) -> "Iterator[Repo]":
    """The workspace's repository under its lock, for work on the stage `address`.

    Whatever DVC raises in the block comes out as a `LineageError` that says what to do.
    Opening anew each time costs 10 ms and leaves nothing to go stale between stages.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    _require_initialised(workspace)
    quiet_dvc()
    # A stage runs in the workspace's root, as it does under `dvc repro`; DVC's run cache needs it
    # too. The front doors are there already, so that no other thread sees a change.
    root = workspace.root.resolve()
    with _one_at_a_time, chdir(root), no_other_repository():
        try:
            with Repo(str(root)) as repo:
                _lock(repo, address)
                try:
                    _mend_rwlock(repo)
                    with repo.scm_context(quiet=True):
                        yield repo
                finally:
                    if repo.lock.is_locked:
                        repo.lock.unlock()
        except DvcException as error:
            raise LineageError(_explain(error, workspace, address)) from error


def load_stage(repo: "Repo", address: str) -> "PipelineStage":
    """The stage as `dvc.yaml` defines it and `dvc.lock` remembers it."""
    from dvc.dvcfile import load_file

    dvcfile = load_file(repo, f"{repo.root_dir}/dvc.yaml")
    lockfile = dvcfile._lockfile
    if lockfile.exists():
        lockfile._check_gitignored()
        # DVC would parse all of it, which takes longer than all the rest in a long campaign.
        entries = read_entries(Workspace(Path(repo.root_dir)))
        dvcfile.lockfile_contents = {"schema": "2.0", "stages": entries}
    stage = dvcfile.stages[address]
    # Else the stage would open the files for itself, and read dvc.lock (half of the time) twice.
    stage.dvcfile = dvcfile
    return stage


@contextmanager
def exclusive(stage: "PipelineStage") -> Iterator[None]:
    """No one else writes what the stage reads, or touches what it writes."""
    from dvc.rwlock import rwlock

    repo = stage.repo
    with rwlock(
        repo.tmp_dir,
        repo.fs,
        # DVC's own methods lock again under this name and must find themselves the holder.
        " ".join(sys.argv),
        [dependency.fs_path for dependency in stage.deps],
        [output.fs_path for output in stage.outs],
        repo.config["core"].get("hardlink_lock", False),
    ):
        yield


@contextmanager
def unlocked(repo: "Repo", address: str) -> Iterator[None]:
    """Others may use the repository in the block, which may take hours."""
    repo.lock.unlock()
    repo._reset()
    try:
        yield
    finally:
        # Giving up here would throw the block's work away, so there is no limit.
        _lock(repo, address, timeout_s=float("inf"))


@contextmanager
def disk_errors(stage: "PipelineStage") -> Iterator[None]:
    """Turn what the file system refuses while DVC stores or restores into a `LineageError`."""
    try:
        yield
    except OSError as error:
        free_mb = shutil.disk_usage(stage.repo.root_dir).free / 1e6
        raise LineageError(
            f"DVC could not store or restore the outputs of {stage.name}: {error} ({free_mb:.0f} "
            "MB free). What is on disk is kept: repair the cause and run again."
        ) from error


def _lock(repo: "Repo", address: str, timeout_s: float | None = None) -> None:
    """Take the repository lock; each attempt of DVC's own lasts three seconds."""
    from dvc.lock import LockError

    deadline = time.monotonic() + (LOCK_TIMEOUT_S if timeout_s is None else timeout_s)
    waiting = False
    while True:
        try:
            repo.lock.lock()
        except LockError:
            if time.monotonic() > deadline:
                raise
            if not waiting:
                logger.warning("%s waits for another DVC command to finish", address)
            waiting = True
        else:
            return


def _mend_rwlock(repo: "Repo") -> None:
    """Start DVC's list of busy paths anew where a process was killed while it wrote it in place.

    DVC writes it under the repository lock only, which we hold: no one is at it now.
    """
    from dvc.rwlock import (
        RWLOCK_FILE,
        RWLockFileCorruptedError,
        RWLockFileFormatError,
        _edit_rwlock,
    )

    try:
        with _edit_rwlock(repo.tmp_dir, repo.fs, repo.config["core"].get("hardlink_lock", False)):
            pass
    except (RWLockFileCorruptedError, RWLockFileFormatError):
        write_text(Path(repo.tmp_dir, RWLOCK_FILE), "{}")
        logger.warning("DVC's list of busy paths, left damaged by a killed process, starts anew")


def quiet_dvc() -> None:
    """Warnings only: DVC's notes and progress bars would tear the caller's own apart."""
    logging.getLogger("dvc").setLevel(logging.WARNING)
    logging.getLogger("dvc.progress").setLevel(logging.CRITICAL)


def _require_initialised(workspace: Workspace) -> None:
    # DVC would search the parent folders, and record this workspace's stages in another's.
    if not (workspace.root / ".dvc").is_dir():
        raise LineageError(
            f"no .dvc folder in {workspace.root}: run from the root of a DistIL workspace; "
            "a new one is a git repository (`git init`) with `dvc init` run in it"
        )


def _explain(error: Exception, workspace: Workspace, address: str) -> str:
    """What happened in the user's terms, and what to do; DVC's own words inside."""
    for kinds, explanation in _explanations():
        if isinstance(error, kinds):
            return explanation.format(address=address, root=workspace.root, error=error)
    return f"{address}: DVC refused: {error}"


def _explanations() -> list[tuple[tuple[type[Exception], ...], str]]:
    from dvc.dvcfile import FileIsGitIgnored
    from dvc.lock import LockError
    from dvc.scm import SCMError
    from dvc.stage.exceptions import StageFileDoesNotExistError, StageNotFound

    return [
        (
            (LockError,),
            "{address} is busy: {error}\n"
            "Wait until the other command has ended (or stop it), then run again.",
        ),
        (
            (StageNotFound,),
            "dvc.yaml has no stage {address}: iterations.yaml names no such iteration (or its "
            "keys are not quoted). `distil extend` adds the next one.",
        ),
        (
            (StageFileDoesNotExistError,),
            "no dvc.yaml in {root} ({error}): run from the root of a DistIL workspace, or restore "
            "the file with `git checkout dvc.yaml`",
        ),
        (
            (FileIsGitIgnored,),
            "{error} DVC records in it, and git must keep it: find the pattern with "
            "`git check-ignore -v dvc.lock dvc.yaml` and remove it.",
        ),
        (
            (SCMError,),
            "{root} is no git repository ({error}): run `git init` there, or clone the project "
            "instead of unpacking it",
        ),
    ]
