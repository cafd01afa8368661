"""The snapshot that holds what an iteration was recorded with."""

import subprocess

from distil_core.errors import LineageError
from distil_core.lineage.dvc_lock import Entry, LockDigests, lock_file, parse_entries
from distil_core.lineage.snapshot import Snapshot, find_snapshot
from distil_core.workspace import Workspace


def snapshot_of(
    workspace: Workspace, campaign: str, iteration: int, digest: str
) -> Snapshot | None:
    """The iteration's snapshot, unless it is of another run of it. digest: its lock digest."""
    snapshot = find_snapshot(workspace, campaign, iteration)
    if snapshot is None:
        return None
    text = _lock_text(workspace, snapshot.commit)
    if text is None:
        return None
    # The usual case, where a long lock need not be parsed again.
    if text == lock_file(workspace).read_text(encoding="utf-8"):
        return snapshot
    entries = parse_entries(text, f"dvc.lock of {snapshot.ref}")
    return snapshot if digest_in(LockDigests(entries), iteration) == digest else None


def digest_in(digests: LockDigests, iteration: int) -> str | None:
    """The iteration's lock digest; None where not all its stages were recorded."""
    try:
        return digests[iteration]
    except LineageError:
        return None


def locked_in(workspace: Workspace, commit: str) -> dict[str, Entry] | None:
    """The stages of a commit's dvc.lock; None where git does not have it here."""
    text = _lock_text(workspace, commit)
    return None if text is None else parse_entries(text, f"dvc.lock of {commit}")


def _lock_text(workspace: Workspace, commit: str) -> str | None:
    shown = subprocess.run(
        ["git", "-C", str(workspace.root), "show", f"{commit}:./dvc.lock"],
        capture_output=True,
        text=True,
        check=False,
    )
    return None if shown.returncode else shown.stdout
