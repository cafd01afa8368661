"""The recorded artifacts of a snapshot, from the workspace's cache or a DVC remote."""

from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from distil_core.errors import LineageError
from distil_core.lineage.dvc import _internals
from distil_core.lineage.dvc.config import config_of_snapshot
from distil_core.lineage.dvc.digest import content_md5
from distil_core.lineage.dvc.lock import LockedArtifact
from distil_core.lineage.git import no_other_repository
from distil_core.workspace import Workspace

if TYPE_CHECKING:
    from distil_core.lineage.dvc._internals import Repo


class SnapshotData:
    """Fetches artifacts into the worktree `tree` of a snapshot of `workspace`."""

    def __init__(self, workspace: Workspace, tree: Workspace):
        self._tree = tree
        self._config = config_of_snapshot(workspace, tree)

    def fetch(self, wanted: list[LockedArtifact]) -> None:
        """Put these artifacts at their paths in the worktree, from the cache or else the remote.

        Raises `LineageError` when one cannot be had, or is not what was recorded.
        """
        if not wanted:
            return
        _internals.quiet()
        paths = [locked.path for locked in wanted]
        root = self._tree.root
        with (
            chdir(root),
            no_other_repository(),
            _internals.open_repo(root, self._config) as repo,
        ):
            if not _internals.checkout(repo, paths):
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
        """The path of the recorded artifact, fetched beside the one made again, which keeps its
        place."""
        made = self._tree.root / locked.path
        aside = made.with_name(f"{made.name}.made-anew")
        expected = self._tree.root.parent / "expected" / locked.path
        made.rename(aside)
        try:
            self.fetch([locked])
            expected.parent.mkdir(parents=True, exist_ok=True)
            made.rename(expected)
        finally:
            aside.rename(made)
        yield expected

    def _pull(self, repo: "Repo", paths: list[str]) -> None:
        if not self._config["core"].get("remote"):
            raise LineageError(
                f"not all of {', '.join(paths)} is in the cache, and there is no DVC remote to "
                "pull from: name one with `dvc remote add --default NAME URL`"
            )
        try:
            _internals.pull(repo, paths)
        # Each kind of remote has its own errors: networks, keys, buckets, missing packages.
        except Exception as error:
            name = self._config["core"]["remote"]
            raise LineageError(
                f"the remote {name} ({self._config['remote'].get(name, {}).get('url')}) did not "
                f"give all of {', '.join(paths)}: {error}. Have them pushed with `dvc push` where "
                "they were made."
            ) from error
