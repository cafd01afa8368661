"""DVC's configuration of a workspace: its remotes, and where its cache is."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from distil_core.errors import LineageError
from distil_core.lineage.dvc import _internals
from distil_core.workspace import Workspace

_HAS_SCHEME = re.compile(r"\w+://")


def has_remote(workspace: Workspace) -> bool:
    """Whether the workspace has a default remote (`dvc remote default`)."""
    return bool(_read(workspace)["core"].get("remote"))


def default_remote_url(workspace: Workspace) -> str | None:
    """URL of the workspace's default remote, without credentials; None when it has none.

    Raises `LineageError` when the default remote is not among those defined.
    """
    config = _read(workspace)
    name = config["core"].get("remote")
    if not name:
        return None
    if name not in config["remote"]:
        raise LineageError(
            f"{_folder(workspace) / 'config'}: the default remote {name!r} is not defined; see "
            "`dvc remote list`, then `dvc remote default` or `dvc remote add`"
        )
    url = urlsplit(str(config["remote"][name]["url"]))
    return urlunsplit(url._replace(netloc=url.netloc.rpartition("@")[2])).rstrip("/")


def cache_folder(workspace: Workspace) -> Path:
    """Where DVC keeps all versions of all artifacts."""
    return Path(cache_config(workspace)["dir"])


def content_url(remote: str, md5: str) -> str:
    """The URL at which a remote, or the path at which a cache, keeps the content (for a folder, the
    listing of its files)."""
    return f"{remote}/files/md5/{md5[:2]}/{md5[2:]}"


def config_of_snapshot(workspace: Workspace, tree: Workspace) -> dict[str, Any]:
    """Settings for the worktree `tree` of a snapshot: the workspace's cache, and its remotes and
    their keys in place of those that the snapshot names.

    They are passed to DVC in memory, since keys must not be written into a temporary folder.
    """
    own, committed = _read(workspace), _read_committed(tree)
    remotes = {
        name: {**options, "url": _absolute(str(options["url"]), _folder(workspace))}
        for name, options in committed.get("remote", {}).items()
    }
    for name, options in own["remote"].items():
        remotes[name] = {**options, "url": str(options["url"])}
    cache = cache_config(workspace)
    remote = own["core"].get("remote") or committed.get("core", {}).get("remote")
    core = {"remote": remote} if remote else {}
    return {"cache": cache, "remote": remotes, "core": core}


def cache_config(workspace: Workspace) -> dict[str, Any]:
    """DVC's settings of the workspace's cache, its folder as an absolute path, by which another
    workspace shares it."""
    cache = dict(_read(workspace)["cache"])
    cache["dir"] = str(cache.get("dir") or workspace.root.resolve() / ".dvc/cache")
    return cache


def _absolute(url: str, base: Path) -> str:
    """The absolute path of a folder named relative to the workspace's configuration."""
    return url if _HAS_SCHEME.match(url) else str((base / url).resolve())


def _folder(workspace: Workspace) -> Path:
    return workspace.root / ".dvc"


def _read(workspace: Workspace) -> Mapping[str, Any]:
    try:
        return _internals.read_config(_folder(workspace))
    except _internals.config_error() as error:
        raise _unreadable(workspace, error) from error


def _read_committed(tree: Workspace) -> Mapping[str, Any]:
    try:
        return _internals.read_committed_config(_folder(tree))
    except _internals.config_error() as error:
        raise _unreadable(tree, error) from error


def _unreadable(workspace: Workspace, error: Exception) -> LineageError:
    return LineageError(
        f"{_folder(workspace) / 'config'}: DVC cannot read its configuration ({error}); see `dvc "
        "remote list` and `dvc config --list`"
    )
