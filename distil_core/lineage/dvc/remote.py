"""The DVC remote, to which artifacts are pushed so that other machines can have them."""

from contextlib import chdir

from distil_core.errors import LineageError
from distil_core.lineage.dvc import _internals
from distil_core.lineage.git import no_other_repository
from distil_core.pipeline import stage_addresses
from distil_core.workspace import Workspace


def push_iteration(workspace: Workspace, iteration: int) -> int:
    """Push an iteration's outputs, and everything they came from, to the default remote; returns
    how many files it lacked. This includes what an earlier failed push left out.

    Raises `LineageError`, whatever the remote's library raised; what is recorded here stays.
    """
    _internals.quiet()
    root = workspace.root.resolve()
    try:
        with chdir(root), no_other_repository(), _internals.open_repo(root) as repo:
            return _internals.push(repo, stage_addresses(iteration))
    # Each kind of remote has its own errors: networks, keys, buckets, missing packages.
    except Exception as error:
        raise LineageError(
            f"iteration {iteration} is finished and recorded here, but `dvc push` to the remote "
            f"failed: {error or type(error).__name__}. Mend the remote (`dvc remote list`), then "
            "`dvc push`; the next iteration's push sends it as well."
        ) from error
