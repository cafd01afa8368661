"""A commit of the workspace's repository, checked out beside it for a while."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from distil_core.errors import LineageError
from distil_core.lineage.git import git
from distil_core.workspace import Workspace

Say = Callable[[str], None]


@contextmanager
def temporary_worktree(
    workspace: Workspace, commit: str, say: Say, keep: bool = False
) -> Iterator[Workspace]:
    """The commit's files in a git worktree of their own, which is removed when the block ends. The
    folder around it may be written into. keep: leave it, and say where it is. One that cannot be
    removed is said too, and no error: what was done in it stands."""
    folder = Path(tempfile.mkdtemp(prefix="distil-worktree-"))
    tree = folder / "workspace"
    # Without hooks: a user's hook may check out data, as DVC's does.
    no_hooks = ("-c", "core.hooksPath=/dev/null")
    arguments = ("worktree", "add", "--quiet", "--detach", str(tree), commit)
    try:
        git(workspace.root, *no_hooks, *arguments)
        yield Workspace(tree.resolve())
    finally:
        if keep:
            say(f"kept: {tree} (`git worktree remove --force {tree}` removes it)")
        else:
            _remove(workspace, folder, tree, say)


def _remove(workspace: Workspace, folder: Path, tree: Path, say: Say) -> None:
    try:
        if tree.exists():
            git(workspace.root, "worktree", "remove", "--force", str(tree))
        shutil.rmtree(folder)
    except (LineageError, OSError) as error:
        say(
            f"could not be removed, and is not needed any more: {folder} ({error}); remove it, "
            "then `git worktree prune`"
        )
