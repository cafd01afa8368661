"""Find the snapshot that has what an iteration was recorded with."""

from distil_core.errors import LineageError
from distil_core.lineage.dvc.lock import Entry, LockDigests, lock_file, parse_entries
from distil_core.lineage.git import file_in_commit
from distil_core.lineage.snapshot.take import Snapshot, find_snapshot
from distil_core.workspace import Workspace


def snapshot_of(
    workspace: Workspace, campaign: str, iteration: int, digest: str
) -> Snapshot | None:
    """The iteration's snapshot; None where it is of another run of the iteration. digest: its lock
    digest."""
    snapshot = find_snapshot(workspace, campaign, iteration)
    if snapshot is None:
        return None
    text = file_in_commit(workspace.root, snapshot.commit, "dvc.lock")
    if text is None:
        return None
    # The usual case, in which a long lock is not parsed again.
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
    """The stages of a commit's dvc.lock; None where the commit is not here."""
    text = file_in_commit(workspace.root, commit, "dvc.lock")
    return None if text is None else parse_entries(text, f"dvc.lock of {commit}")
