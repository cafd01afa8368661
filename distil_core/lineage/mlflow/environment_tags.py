"""Workspace, code, libraries, processor and user as tags of a run."""

from distil_core.lineage.environment import code, libraries, package, processor, user
from distil_core.lineage.mlflow import _internals
from distil_core.workspace import Workspace


def environment_tags(workspace: Workspace) -> dict[str, str]:
    """All of these tags. Raises `LineageError` outside a git repository."""
    commit, changed = code(workspace)
    tags = {
        "distil.workspace": str(workspace.root.resolve()),
        "distil.git_dirty": str(changed).lower(),
    }
    if commit:
        tags |= {_internals.COMMIT_TAG: commit, "distil.git_commit": commit}
    tags["distil.recorder.package"] = package()
    tags |= {"distil.recorder.libraries": libraries(), "distil.recorder.cpu": processor()}
    return tags | user_tags()


def user_tags() -> dict[str, str]:
    """The tag of the user; empty where there is no name."""
    name = user()
    return {_internals.USER_TAG: name} if name else {}
