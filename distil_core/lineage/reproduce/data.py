"""The recorded artifacts of a snapshot, out of the workspace's cache or a DVC remote."""

import re
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

from distil_core.errors import LineageError
from distil_core.lineage.dvc.lock import LockedArtifact
from distil_core.lineage.dvc.session import quiet_dvc
from distil_core.lineage.evidence.inputs import content_md5
from distil_core.lineage.git import no_other_repository
from distil_core.workspace import Workspace

_HAS_SCHEME = re.compile(r"\w+://")


class SnapshotData:
    """Brings artifacts into the worktree `tree` of a snapshot of `workspace`."""

    def __init__(self, workspace: Workspace, tree: Workspace):
        self._tree = tree
        self._config = _configuration(workspace, tree)

    def bring(self, wanted: list[LockedArtifact]) -> None:
        """Have these artifacts at their paths in the worktree, from the cache, else the remote.

        Raises `LineageError` when one is nowhere to be had, or is not what was recorded.
        """
        from dvc.exceptions import CheckoutError
        from dvc.repo import Repo

        if not wanted:
            return
        quiet_dvc()
        paths = [locked.path for locked in wanted]
        root = str(self._tree.root)
        with chdir(root), no_other_repository(), Repo(root, config=self._config) as repo:
            try:
                repo.checkout(targets=paths, force=True)
            except CheckoutError:
                self._pull(repo, paths)
        for locked in wanted:
            found = content_md5(self._tree.root / locked.path)
            if found != locked.md5:
                raise LineageError(
                    f"{locked.path} came out of the cache or the remote with md5 {found}, recorded "
                    f"is {locked.md5}: the stored one is damaged. Remove it from the cache "
                    f"(.dvc/cache/files/md5/{locked.md5[:2]}/{locked.md5[2:]}) and pull it again."
                )

    @contextmanager
    def original(self, locked: LockedArtifact) -> Iterator[Path]:
        """The recorded artifact beside the one that was made anew, which is back afterwards."""
        made = self._tree.root / locked.path
        aside = made.with_name(f"{made.name}.made-anew")
        expected = self._tree.root.parent / "expected" / locked.path
        made.rename(aside)
        try:
            self.bring([locked])
            expected.parent.mkdir(parents=True, exist_ok=True)
            made.rename(expected)
        finally:
            aside.rename(made)
        yield expected

    def _pull(self, repo: Any, paths: list[str]) -> None:
        if not self._config["core"].get("remote"):
            raise LineageError(
                f"not all of {', '.join(paths)} is in the cache, and there is no DVC remote to "
                "pull from: name one with `dvc remote add --default NAME URL`"
            )
        try:
            repo.pull(targets=paths, force=True)
        # Each kind of remote has errors of its own: networks, keys, buckets, missing packages.
        except Exception as error:
            name = self._config["core"]["remote"]
            raise LineageError(
                f"the remote {name} ({self._config['remote'].get(name, {}).get('url')}) did not "
                f"give all of {', '.join(paths)}: {error}. Have them pushed with `dvc push` where "
                "they were made."
            ) from error


def _configuration(workspace: Workspace, tree: Workspace) -> dict[str, Any]:
    """The cache of the workspace, and its remotes and their keys over those of the snapshot.

    Given to DVC in memory, since keys must not be written into a temporary folder.
    """
    from dvc.config import Config, ConfigError

    try:
        own = Config(str(workspace.root / ".dvc"))
        committed = Config(str(tree.root / ".dvc")).load_file(str(tree.root / ".dvc/config"))
    except ConfigError as error:
        raise LineageError(f"DVC's configuration cannot be read: {error}") from error
    remotes = {
        name: {**options, "url": _absolute(str(options["url"]), workspace.root / ".dvc")}
        for name, options in committed.get("remote", {}).items()
    }
    for name, options in own["remote"].items():
        remotes[name] = {**options, "url": str(options["url"])}
    cache = dict(own["cache"])
    cache["dir"] = str(cache.get("dir") or workspace.root.resolve() / ".dvc/cache")
    remote = own["core"].get("remote") or committed.get("core", {}).get("remote")
    core = {"remote": remote} if remote else {}
    return {"cache": cache, "remote": remotes, "core": core}


def _absolute(url: str, base: Path) -> str:
    """A folder named relative to the workspace's configuration, wherever the worktree lies."""
    return url if _HAS_SCHEME.match(url) else str((base / url).resolve())
