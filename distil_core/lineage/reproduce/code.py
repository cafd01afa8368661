"""The users' code that a snapshot holds, put where Python finds it before any that is installed."""

import shutil
from pathlib import Path

from distil_core.lineage.git import file_in_commit
from distil_core.lineage.snapshot.take import Snapshot
from distil_core.source_code import BUILT_IN_FILE, CODE_FOLDER, package_places
from distil_core.workspace import Workspace


def holds_own_code(workspace: Workspace, snapshot: Snapshot) -> bool:
    """Whether the snapshot is of a clone of DistIL, and so runs again with the code of then; of any
    other workspace it runs with the package that is installed."""
    source = "distil_core/__init__.py"
    return file_in_commit(workspace.root, snapshot.commit, source) is not None


def put_recorded_code(tree: Workspace, folder: Path) -> list[str]:
    """Have `folder`, to be searched after the worktree, hold the recorded files of every package
    with a user's component; of the rest of such a package what is installed here.

    Returns the recorded files that are others, or none, in what is installed here.
    """
    differing = []
    recorded = _recorded(tree)
    for top in sorted({Path(path).parts[0] for path in recorded}):
        own = {path: file for path, file in recorded.items() if Path(path).parts[0] == top}
        in_tree = (tree.root / top).exists()
        places = [tree.root] if in_tree else package_places(top.removesuffix(".py"))
        differing += [path for path, file in own.items() if not _is_same(path, file, places)]
        target = tree.root if in_tree else folder
        if not in_tree:
            _link_rest(top, places, target)
        for path, file in own.items():
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (target / path).unlink(missing_ok=True)
            shutil.copyfile(file, target / path)
    return differing


def _recorded(tree: Workspace) -> dict[str, Path]:
    """Recorded files by path below the folder that their package is imported from."""
    root = tree.root / CODE_FOLDER
    files = (path for path in root.glob("*/**/*") if path.is_file())
    kept = (file for file in files if file != tree.root / BUILT_IN_FILE)
    return {Path(*file.relative_to(root).parts[1:]).as_posix(): file for file in sorted(kept)}


def _is_same(path: str, file: Path, places: list[Path]) -> bool:
    found = next((place / path for place in places if (place / path).is_file()), None)
    return found is not None and found.read_bytes() == file.read_bytes()


def _link_rest(top: str, places: list[Path], target: Path) -> None:
    """What a package imports by names that it makes up, or reads as data, was not recorded."""
    for place in places:
        for file in (place / top).rglob("*"):
            link = target / file.relative_to(place)
            if file.is_file() and file.suffix != ".pyc" and not link.exists():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(file.resolve())
