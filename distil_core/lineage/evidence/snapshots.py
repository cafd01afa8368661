"""Snapshots of all iterations that are finished."""

from distil_core.lineage.evidence.iteration import History
from distil_core.lineage.snapshot.take import Snapshot, ensure_snapshot
from distil_core.workspace import Workspace


def ensure_snapshots(workspace: Workspace) -> list[Snapshot]:
    """Snapshots of all finished iterations, as by `ensure_snapshot`, for what plain `dvc repro`
    made.

    Raises `LineageError` also where settings or files are not those that were recorded.
    """
    history = History(workspace)
    last = history.last_finished()
    snapshots = []
    for iteration in range(0 if last is None else last + 1):
        # Reading checks it: a snapshot of settings that nothing ran with would mislead.
        _ = history[iteration]
        snapshots.append(ensure_snapshot(workspace, iteration))
    return snapshots
