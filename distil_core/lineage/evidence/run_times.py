"""When an iteration's stages finished, as noted when they ran: a file's own time is that of the
last `dvc checkout`, clone or copy."""

import json
import time

from distil_core.errors import LineageError
from distil_core.lineage.dvc.lock import LockDigests
from distil_core.lineage.git import git
from distil_core.lineage.snapshot.recorded import digest_in, snapshot_of
from distil_core.workspace import Workspace


def finished_at_ms(
    workspace: Workspace, campaign: str, iteration: int, digests: LockDigests
) -> int:
    """When the iteration was evaluated, in milliseconds since the epoch.

    Where it ran elsewhere, the time of its snapshot, which is taken right after; without one, now.
    digests: of `dvc.lock`. Raises `LineageError` where the note is damaged.
    """
    finished_s = stage_finish_times(workspace, iteration).get("evaluate")
    if finished_s is None:
        digest = digest_in(digests, iteration)
        snapshot = snapshot_of(workspace, campaign, iteration, digest) if digest else None
        if snapshot is None:
            finished_s = time.time()
        else:
            shown = git(workspace.root, "show", "--no-patch", "--format=%ct", snapshot.commit)
            finished_s = float(shown)
    return int(finished_s * 1000)


def stage_finish_times(workspace: Workspace, iteration: int) -> dict[str, float]:
    """When stages of the iteration finished here, in seconds since the epoch, by name; empty where
    none ran here. Raises `LineageError` where the note is damaged."""
    path = workspace.finish_times_file(iteration)
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): float(seconds) for name, seconds in noted.items()}
    except FileNotFoundError:
        return {}
    except (AttributeError, TypeError, ValueError) as error:
        raise LineageError(
            f"{path}: expected a JSON object of times by stage ({error}); delete the file, it is "
            "only a note of when the stages ran"
        ) from error
