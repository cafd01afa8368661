"""The DVC remote: where artifacts go so that other machines can have them."""

from contextlib import chdir

from distil_core.errors import LineageError
from distil_core.lineage.dvc import _internals
from distil_core.lineage.git import no_other_repository
from distil_core.pipeline import stage_addresses
from distil_core.workspace import Workspace


def push_iteration(workspace: Workspace, iteration: int) -> int:
    """Send what an iteration wrote, and all it came from, to the default remote; how many files
    it had not got yet. So what an earlier failure left behind is made up for.

    Raises `LineageError`, whatever the remote's library raised; what is recorded here stays.
    """
    _internals.quiet()
    root = workspace.root.resolve()
    try:
        with chdir(root), no_other_repository(), _internals.open_repo(root) as repo:
            return _internals.push(repo, stage_addresses(iteration))
    # Each kind of remote has errors of its own: networks, keys, buckets, missing packages.
    except Exception as error:
        raise LineageError(
            f"iteration {iteration} is finished and recorded here, but `dvc push` to the remote "
            f"failed: {error or type(error).__name__}. Mend the remote (`dvc remote list`), then "
            "`dvc push`; the next iteration's push sends it as well."
        ) from error
