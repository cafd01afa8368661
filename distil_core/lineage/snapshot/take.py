"""Snapshots: a git ref for each finished iteration with all that a rerun of it needs.

`refs/distil/<campaign>/<NNN>` names a commit of the code and settings as they lie on disk, and of
`dvc.lock`, whose digests name the data. The user's branch, index, stash and files stay as they
are: the tree is built in an index of its own. Refs are kept by git's garbage collection and
shared by all worktrees of a clone; `git push origin 'refs/distil/*:refs/distil/*'` shares them.

The tag `distil/<campaign>/<NNN>` names the same commit: `dvc gc --all-commits` and `--all-tags`
keep what branches, tags and remotes name, and delete what only other refs do.
"""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from distil_core.credentials import is_credential_file
from distil_core.errors import LineageError
from distil_core.lineage.dvc.lock import lock_digest
from distil_core.lineage.environment import libraries, package, processor
from distil_core.lineage.frozen import read_frozen
from distil_core.lineage.git import git, git_or_none
from distil_core.source_code import CODE_FOLDER
from distil_core.workspace import Workspace, iteration_key

REFS = "refs/distil"
TAGS = "refs/tags/distil"

# Untracked files are taken from these places, and only of these kinds: an untracked file may be
# a data set, or hold a key.
_FOLDERS = ("flows", "tasks", "distil_core", "presets", "iterations", "requirements", CODE_FOLDER)
_FILES = (
    "dvc.yaml",
    "dvc.lock",
    "params.yaml",
    "iterations.yaml",
    "prefect.yaml",
    "pyproject.toml",
    "Makefile",
    ".gitignore",
    ".dvcignore",
    ".dvc/config",
    ".dvc/.gitignore",
    "data/.gitignore",
)
_KINDS = (".py", ".yaml", ".yml", ".toml", ".json", ".html", ".css", ".txt", ".sh")

_IDENTITY = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", "DistIL"), ("EMAIL", "distil@localhost"))
}


@dataclass(frozen=True)
class Snapshot:
    """An iteration's code, settings and `dvc.lock` as a commit. ref: its full name."""

    ref: str
    commit: str


def snapshot_ref(campaign: str, iteration: int) -> str:
    """The full name of the iteration's ref, for example `refs/distil/chain-arithmetic/003`."""
    return f"{REFS}/{campaign}/{iteration_key(iteration)}"


def read_snapshot(workspace: Workspace, iteration: int) -> Snapshot | None:
    """The iteration's snapshot as the ref says now; None when there is none.

    Raises `LineageError` outside a git repository or without frozen settings.
    """
    return find_snapshot(workspace, _campaign(workspace, iteration), iteration)


def find_snapshot(workspace: Workspace, campaign: str, iteration: int) -> Snapshot | None:
    """The iteration's snapshot, for any campaign of which the repository has snapshots."""
    ref = snapshot_ref(campaign, iteration)
    commit = git_or_none(workspace.root, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
    return Snapshot(ref, commit.strip()) if commit else None


def list_snapshots(workspace: Workspace) -> list[tuple[str, int]]:
    """Campaign and iteration of every snapshot, sorted."""
    refs = git(workspace.root, "for-each-ref", "--format=%(refname)", REFS).split()
    parts = [ref.removeprefix(f"{REFS}/").split("/") for ref in refs]
    return sorted((part[0], int(part[1])) for part in parts if len(part) == 2 and part[1].isdigit())


def take_snapshot(workspace: Workspace, iteration: int) -> Snapshot:
    """Point the iteration's ref to what lies on disk now; the same ref when that is all the same.

    Tracked files are taken as they are on disk, untracked ones only where code and settings lie;
    never what git ignores, nor data, nor an untracked file with credentials, which the message
    names. Of users' components it has the files themselves, wherever they lie. The commit's
    parents are HEAD and the iteration's snapshot before, so that a later one is a fast-forward of
    the ref and none is lost. Its message says what it was made with.

    Raises `LineageError` with what to do when git cannot, or `dvc.lock` or the settings are
    ignored by git or missing.
    """
    root = workspace.root
    _require_top_level(root)
    before = read_snapshot(workspace, iteration)
    tree = _write_tree(workspace, iteration)
    if before and tree == git(root, "rev-parse", f"{before.commit}^{{tree}}").strip():
        _tag(root, before)
        return before
    campaign = _campaign(workspace, iteration)
    head = git_or_none(root, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    parents = dict.fromkeys([head.strip()] if head else [])
    parents |= dict.fromkeys([before.commit] if before else [])
    commit = git(
        root,
        "commit-tree",
        tree,
        *(argument for parent in parents for argument in ("-p", parent)),
        text_input=_message(workspace, campaign, iteration),
        variables=_IDENTITY,
    ).strip()
    ref = snapshot_ref(campaign, iteration)
    nothing = "0" * len(commit)
    # Only if the ref is unchanged, so that of two recordings at once neither loses its snapshot.
    git(root, "update-ref", ref, commit, before.commit if before else nothing)
    snapshot = Snapshot(ref, commit)
    _tag(root, snapshot)
    return snapshot


def _tag(root: Path, snapshot: Snapshot) -> None:
    """Point the tag to the snapshot too. Like the ref, it only moves forward."""
    git(root, "update-ref", snapshot.ref.replace(REFS, TAGS, 1), snapshot.commit)


def ensure_snapshot(workspace: Workspace, iteration: int) -> Snapshot:
    """The iteration's snapshot, taken now unless there is one of the same lock digest.

    That one has the code that made these very artifacts; what lies on disk now may be newer.
    Raises as `take_snapshot` does, and when a stage of the iteration was never recorded.
    """
    present = present_snapshot(workspace, iteration)
    if present:
        # A snapshot of an earlier version has none.
        _tag(workspace.root, present)
        return present
    return take_snapshot(workspace, iteration)


def present_snapshot(workspace: Workspace, iteration: int) -> Snapshot | None:
    """The iteration's snapshot where it is of the lock digest of now; None where one is to be
    taken. Raises as `ensure_snapshot` does."""
    present = read_snapshot(workspace, iteration)
    if present is None:
        return None
    noted = snapshot_notes(workspace, present).get("lock")
    return present if noted == lock_digest(workspace, iteration) else None


def snapshot_notes(workspace: Workspace, snapshot: Snapshot) -> dict[str, str]:
    """The notes in the snapshot's message: `lock`, the iteration's lock digest; `distil`,
    `libraries` and `cpu`, those of the process that took it."""
    body = git(workspace.root, "log", "-1", "--format=%b", snapshot.commit)
    pairs = (line.partition(": ") for line in body.splitlines())
    return {name: value for name, separator, value in pairs if separator}


def _campaign(workspace: Workspace, iteration: int) -> str:
    return str(read_frozen(workspace, workspace.frozen_params_file(iteration))["campaign"])


def _message(workspace: Workspace, campaign: str, iteration: int) -> str:
    return (
        f"Iteration {iteration} of {campaign}\n\n"
        f"lock: {lock_digest(workspace, iteration)}\n"
        f"distil: {package()}\n"
        f"libraries: {libraries()}\n"
        f"cpu: {processor()}\n"
        + "".join(
            f"left out: {path}, which holds credentials\n" for path in _left_out(workspace.root)
        )
    )


def _write_tree(workspace: Workspace, iteration: int) -> str:
    """The id of a tree with everything that belongs to the snapshot, now in git's object store."""
    root = workspace.root
    with tempfile.TemporaryDirectory(prefix="distil-index-") as folder:
        variables = {"GIT_INDEX_FILE": str(Path(folder, "index"))}

        def update(option: str, entries: list[str]) -> None:
            text = "".join(f"{entry}\0" for entry in entries)
            arguments = ["update-index", "--add", "-z", option]
            git(root, *arguments, text_input=text, variables=variables)

        on_disk, carried_over = _tracked(root)
        linked = {path: file for path, file in _linked(root).items() if not _is_secret(root, file)}
        paths = {*on_disk, *_untracked(root)} - _linked(root).keys()
        _require_all(workspace, iteration, paths)
        # With an empty index every file is read, whatever the user's index assumes about it.
        update("--index-info", [*carried_over, *_contents(root, linked)])
        update("--stdin", sorted(paths))
        return git(root, "write-tree", variables=variables).strip()


def _linked(root: Path) -> dict[str, Path]:
    """Links below `code/` to the sources of users' components, with the files they lead to."""
    links = (path for path in (root / CODE_FOLDER).rglob("*") if path.is_symlink())
    return {path.relative_to(root).as_posix(): path.resolve() for path in links if path.is_file()}


def _is_secret(root: Path, file: Path) -> bool:
    """Whether a linked file holds credentials that git does not have already."""
    if not is_credential_file(file):
        return False
    is_outside = not file.is_relative_to(root.resolve())
    return is_outside or not git(root, "ls-files", "--", str(file))


def _contents(root: Path, linked: Mapping[str, Path]) -> list[str]:
    """Entries of an index that has the files themselves in the place of links to them: a rerun
    elsewhere is to have them."""
    if not linked:
        return []
    names = "".join(f"{file}\n" for file in linked.values())
    arguments = ("hash-object", "-w", "--no-filters", "--stdin-paths")
    ids = git(root, *arguments, text_input=names).split()
    return [f"100644 {each} 0\t{path}" for path, each in zip(linked, ids, strict=True)]


def _tracked(root: Path) -> tuple[list[str], list[str]]:
    """Paths of tracked files on disk; and entries of the user's index for what is tracked, and on
    disk never was: submodules, and files outside a sparse checkout."""
    on_disk, carried_over = [], []
    listed = git(root, "ls-files", "--stage", "-t", "-z").split("\0")
    for line in listed[:-1]:
        entry, _, path = line.partition("\t")
        tag, mode, object_id, _ = entry.split()
        if mode == "160000" or tag == "S":
            carried_over.append(f"{mode} {object_id} 0\t{path}")
        elif _is_file(root / path):
            on_disk.append(path)
    return on_disk, carried_over


def _untracked(root: Path) -> Iterator[str]:
    """Paths of code and settings that git does not know yet and does not ignore; without files
    that hold credentials, since snapshots are pushed."""
    return (path for path in _untracked_code(root) if not _keeps_credentials(root, path))


def _left_out(root: Path) -> list[str]:
    untracked = [path for path in _untracked_code(root) if _keeps_credentials(root, path)]
    return untracked + [path for path, file in _linked(root).items() if _is_secret(root, file)]


def _keeps_credentials(root: Path, path: str) -> bool:
    may = path not in _FILES or path == ".dvc/config"
    return may and is_credential_file(root / path)


def _untracked_code(root: Path) -> Iterator[str]:
    arguments = ("ls-files", "--others", "--exclude-standard", "-z", "--", *_FOLDERS, *_FILES)
    for path in git(root, *arguments).split("\0")[:-1]:
        inner = PurePosixPath(path)
        hidden = any(part.startswith(".") for part in inner.parts)
        if path in _FILES or (inner.suffix in _KINDS and not hidden and _is_file(root / path)):
            yield path


def _is_file(path: Path) -> bool:
    return path.is_symlink() or path.is_file()


def _require_all(workspace: Workspace, iteration: int, paths: set[str]) -> None:
    needed = [
        workspace.root / "dvc.yaml",
        workspace.root / "dvc.lock",
        workspace.iterations_file,
        workspace.frozen_params_file(iteration),
    ]
    missing = [name for name in map(workspace.relative, needed) if name not in paths]
    if missing:
        raise LineageError(
            f"a snapshot of iteration {iteration} needs {', '.join(missing)}, which git ignores or "
            f"which is missing in {workspace.root}: `git check-ignore -v {missing[0]}` names the "
            "pattern to remove, `git checkout` brings a deleted file back"
        )


def _require_top_level(root: Path) -> None:
    top_level = git(root, "rev-parse", "--show-toplevel").strip()
    if Path(top_level) != root.resolve():
        raise LineageError(
            f"{root} lies inside the git repository {top_level}: a workspace is the root of one of "
            "its own; run `git init` in it, or move it out"
        )
