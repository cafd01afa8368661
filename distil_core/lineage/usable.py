"""Whether DVC and git can work in a workspace, checked before hours of work are done."""

import os
from pathlib import Path
from typing import NamedTuple

from distil_core.errors import LineageError
from distil_core.lineage.git import git
from distil_core.workspace import Workspace


class Obstacle(NamedTuple):
    """What prevents it, and what to do about it."""

    what: str
    remedy: str


def folder_obstacle(workspace: Workspace) -> Obstacle | None:
    """What keeps DVC from working in the workspace's folder; None where nothing does."""
    root = workspace.root.resolve()
    braces = [character for character in "{}" if character in str(root)]
    if braces:
        return Obstacle(
            f"DVC cannot work in {root}: it takes {' and '.join(braces)} in a path for a template",
            "move the workspace to a path without braces; the campaign goes with it",
        )
    for path in (workspace.root / "data", workspace.iteration_dir(0).parent):
        if path.is_symlink():
            return Obstacle(
                f"{path} is a link to {path.readlink()}, and DVC tracks no files behind a link",
                f"make it a folder: `rm {path}`, then `git checkout {path}` or `mv "
                f"{path.resolve()} {path}`. To keep large files on another disk, move DVC's cache: "
                "`dvc cache dir --local /path/there`, `dvc config --local cache.type symlink`",
            )
    return None


def write_obstacle(workspace: Workspace) -> Obstacle | None:
    """What of the workspace cannot be written, of what every run writes."""
    root = workspace.root
    written = (".", "data", "iterations", ".dvc", ".dvc/cache", ".dvc/tmp", ".git", ".distil")
    unwritable = [
        str((root / name).absolute())
        for name in written
        if (root / name).is_dir() and not os.access(root / name, os.W_OK | os.X_OK)
    ]
    if not unwritable:
        return None
    if os.statvfs(root).f_flag & os.ST_RDONLY:
        return Obstacle(
            f"{root} is on a file system that is read-only",
            "copy the workspace to one that can be written (`cp -a`), or mount it for writing. "
            "`distil lineage` and `distil doctor` only read",
        )
    return Obstacle(
        f"not writable: {', '.join(unwritable)}",
        "`chmod -R u+w` it, or `chown -R` it if it belongs to another user; `distil lineage` and "
        "`distil doctor` only read",
    )


def git_obstacle(workspace: Workspace) -> Obstacle | None:
    """What keeps git from working there; the workspace must be the root of a repository."""
    root = workspace.root.resolve()
    try:
        top_level = git(workspace.root, "rev-parse", "--show-toplevel").rstrip("\n")
    except LineageError as error:
        if "dubious ownership" in str(error):
            return Obstacle(
                f"git refuses to work in {root}, which belongs to {_owner(root)}, not to this user",
                f"if you trust it: `git config --global --add safe.directory {root}`; if it is "
                "yours: `chown -R` it",
            )
        if "not a git repository" in str(error):
            return Obstacle(f"{root} is no git repository", "run `git init` there")
        return Obstacle(str(error), "see what git says")
    if Path(top_level) != root:
        return Obstacle(
            f"{root} lies inside the git repository {top_level}: a workspace is the root of one of "
            "its own",
            "run `git init` in it, or move it out",
        )
    return None


def require_usable_folder(workspace: Workspace) -> None:
    """Raise `LineageError`, with what to do, where DVC cannot work in the workspace's folder."""
    _require(folder_obstacle(workspace) or write_obstacle(workspace))


def require_usable(workspace: Workspace) -> None:
    """Raise `LineageError`, with what to do, where DVC or git cannot work in the workspace."""
    _require(folder_obstacle(workspace) or write_obstacle(workspace) or git_obstacle(workspace))


def _require(obstacle: Obstacle | None) -> None:
    if obstacle:
        raise LineageError(f"{obstacle.what}: {obstacle.remedy}")


def _owner(root: Path) -> str:
    try:
        return root.owner()
    except KeyError:
        return f"user {root.stat().st_uid}"
