"""Content that DVC stores, brought back by its digest alone, wherever it lay in the workspace."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distil_core.errors import LineageError
from distil_core.lineage.dvc import _internals
from distil_core.lineage.dvc.config import config_of_snapshot
from distil_core.lineage.dvc.digest import content_md5
from distil_core.workspace import Workspace


@contextmanager
def stored_content(workspace: Workspace, md5: str, name: str) -> Iterator[Path]:
    """The file or folder with this digest for the block, from the workspace's cache or else its
    remote. It is a copy: what is done to it does not reach the cache. name: its last part.

    Raises `LineageError`, with what to do, where neither has it or the stored content is damaged.
    """
    _internals.quiet()
    with tempfile.TemporaryDirectory(prefix="distil-content-") as folder:
        # A repository for this one output: DVC finds content by a file that names its digest.
        room = Workspace(Path(folder).resolve())
        (room.root / ".dvc").mkdir()
        (room.root / ".dvc" / "config").touch()
        output = {"md5": md5, "hash": "md5", "path": name}
        described = _internals.dumps_yaml({"outs": [output]})
        target = room.root / "content.dvc"
        target.write_text(described, encoding="utf-8")
        config = _config(workspace, room)
        with _internals.open_repo(room.root, config) as repo:
            if not _internals.checkout(repo, [str(target)]):
                _pull(repo, workspace, config, md5, target)
        path = room.root / name
        found = content_md5(path)
        if found != md5:
            raise LineageError(
                f"what DVC stores as {md5} has digest {found or 'nothing'}: it is damaged. Remove "
                f"files/md5/{md5[:2]}/{md5[2:]} from the cache of {workspace.root} and pull again"
            )
        yield path


def _config(workspace: Workspace, room: Workspace) -> dict[str, Any]:
    config = config_of_snapshot(workspace, room)
    # Never links: a program that changes what it was given would change the cache.
    config["cache"] = {**config["cache"], "type": ["reflink", "copy"]}
    config["core"] = {**config["core"], "no_scm": True}
    return config


def _pull(
    repo: "_internals.Repo", workspace: Workspace, config: dict[str, Any], md5: str, target: Path
) -> None:
    remote = config["core"].get("remote")
    if not remote:
        raise LineageError(
            f"DVC's cache of {workspace.root} lacks {md5}, and there is no remote to pull it from: "
            "name one with `dvc remote add --default NAME URL`, or make it again with `dvc repro` "
            "at the git commit whose dvc.lock names it"
        )
    try:
        _internals.pull(repo, [str(target)])
    # Each kind of remote has its own errors: networks, keys, buckets, missing packages.
    except Exception as error:
        url = config["remote"].get(remote, {}).get("url")
        raise LineageError(
            f"DVC's cache of {workspace.root} lacks {md5}, and the remote {remote} ({url}) did not "
            f"give it: {error}. Have it pushed with `dvc push` where it was made"
        ) from error
