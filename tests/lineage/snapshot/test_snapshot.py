"""Snapshots in real git repositories, in the states users leave them in."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from dvc_scratch import addresses, dvc, freeze, git, make_workspace, run_fake

from distil_core.errors import LineageError
from distil_core.lineage.snapshot.take import (
    ensure_snapshot,
    list_snapshots,
    read_snapshot,
    snapshot_notes,
    snapshot_ref,
    take_snapshot,
)
from distil_core.workspace import Workspace

AUTHOR = ("-c", "user.name=test", "-c", "user.email=t@example.org")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose iterations 0 and 1 have run; dvc.lock is not committed."""
    workspace = make_workspace(tmp_path_factory.mktemp("finished") / "campaign")
    for address in addresses():
        run_fake(workspace, address)
    return workspace.root


@pytest.fixture
def workspace(finished: Path, tmp_path: Path) -> Workspace:
    subprocess.run(["cp", "-a", str(finished), str(tmp_path / "campaign")], check=True)
    return Workspace(tmp_path / "campaign")


def files(workspace: Workspace, commit: str) -> list[str]:
    return git(workspace.root, "ls-tree", "-r", "--name-only", commit).split("\n")[:-1]


def state(root: Path) -> tuple[str, ...]:
    """All a user would notice: branch, index to the bit, what differs, own tags, stash."""
    index = Path(root, git(root, "rev-parse", "--git-path", "index").strip())
    bytes_of_index = index.read_bytes() if index.exists() else b""
    return (
        (root / ".git").read_text() if (root / ".git").is_file() else "",
        str(bytes_of_index),
        git(
            root,
            "--no-optional-locks",
            "status",
            "--porcelain=v2",
            "--branch",
            "--untracked-files=all",
        ),
        *(
            line
            for line in git(root, "for-each-ref", "refs/heads", "refs/tags", "refs/stash").split(
                "\n"
            )
            if "refs/tags/distil/" not in line
        ),
    )


def test_holds_what_lies_on_disk_and_nothing_private(workspace: Workspace) -> None:
    root = workspace.root
    (root / "tasks/fake_stages.py").write_text("changed = True\n")
    (root / "tasks/new.py").write_text("new = True\n")
    (root / "tasks/table.parquet").write_text("data")
    (root / "tasks/.env").write_text("KEY=1")
    (root / ".env").write_text("KEY=1")
    (root / "notes.txt").write_text("mine")
    (root / "tasks/gone.py").write_text("")
    git(root, "add", "tasks/gone.py")
    (root / "tasks/gone.py").unlink()
    before = state(root)

    snapshot = take_snapshot(workspace, 1)

    assert state(root) == before
    assert snapshot.ref == snapshot_ref("scratch", 1) == "refs/distil/scratch/001"
    assert read_snapshot(workspace, 1) == snapshot
    assert list_snapshots(workspace) == [("scratch", 1)]
    held = files(workspace, snapshot.commit)
    assert {"dvc.lock", "dvc.yaml", "iterations/001.yaml", "tasks/new.py", ".dvc/config"} <= {*held}
    held.remove("code/built_in.txt")
    assert not [name for name in held if ".env" in name or name.endswith((".parquet", ".txt"))]
    assert "tasks/gone.py" not in held
    assert git(root, "show", f"{snapshot.commit}:tasks/fake_stages.py") == "changed = True\n"
    assert git(root, "show", f"{snapshot.commit}:dvc.lock") == (root / "dvc.lock").read_text()
    assert git(root, "rev-parse", f"{snapshot.commit}^") == git(root, "rev-parse", "HEAD")
    assert "torch" in snapshot_notes(workspace, snapshot)["libraries"]


def test_the_same_content_makes_no_new_commit_and_other_content_a_fast_forward(
    workspace: Workspace,
) -> None:
    first = take_snapshot(workspace, 1)
    assert take_snapshot(workspace, 1) == first
    (workspace.root / "tasks/new.py").write_text("new = True\n")
    second = take_snapshot(workspace, 1)
    assert second.commit != first.commit
    git(workspace.root, "merge-base", "--is-ancestor", first.commit, second.commit)


def test_one_whose_lock_agrees_is_kept_though_the_code_moved_on(workspace: Workspace) -> None:
    first = ensure_snapshot(workspace, 1)
    (workspace.root / "tasks/new.py").write_text("new = True\n")
    assert ensure_snapshot(workspace, 1) == first
    freeze(workspace, 1, seed=2)
    for address in addresses():
        run_fake(workspace, address)
    assert ensure_snapshot(workspace, 1) != first


def detached(root: Path) -> None:
    git(root, "checkout", "-q", "--detach")


def unborn(root: Path) -> None:
    git(root, "checkout", "-q", "--orphan", "other")
    git(root, "rm", "-rq", "--cached", ".")


def merging(root: Path) -> None:
    for branch, text in (("one", "one = 1\n"), ("two", "two = 2\n")):
        git(root, "checkout", "-qb", branch, "HEAD" if branch == "one" else "one~1")
        (root / "tasks/base.py").write_text(text)
        git(root, *AUTHOR, "commit", "-qam", branch)
    merge = ["git", *AUTHOR, "merge", "-q", "one"]
    subprocess.run(merge, cwd=root, capture_output=True, check=False)
    assert "<<<<" in (root / "tasks/base.py").read_text()


def assumed_unchanged(root: Path) -> None:
    git(root, "update-index", "--assume-unchanged", "tasks/base.py")
    (root / "tasks/base.py").write_text("really = 'changed'\n")


@pytest.mark.parametrize("bring_about", [detached, unborn, merging, assumed_unchanged])
def test_states_of_a_repository(
    workspace: Workspace, bring_about: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, "/dev/null")
    bring_about(workspace.root)
    before = state(workspace.root)
    snapshot = take_snapshot(workspace, 1)
    assert state(workspace.root) == before
    assert {"dvc.lock", "iterations/001.yaml"} <= {*files(workspace, snapshot.commit)}
    kept = git(workspace.root, "show", f"{snapshot.commit}:tasks/base.py")
    assert kept == (workspace.root / "tasks/base.py").read_text()


def test_in_a_worktree_of_a_shallow_clone(workspace: Workspace, tmp_path: Path) -> None:
    root = workspace.root
    git(root, "add", "-A")
    git(root, *AUTHOR, "commit", "-qm", "ran")
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{root}", str(tmp_path / "shallow"))
    git(tmp_path / "shallow", "worktree", "add", "-q", str(tmp_path / "tree"))
    tree = Workspace(tmp_path / "tree")
    before = state(tree.root)
    snapshot = take_snapshot(tree, 1)
    assert state(tree.root) == before
    assert read_snapshot(Workspace(tmp_path / "shallow"), 1) == snapshot


def test_a_hook_of_another_repository_does_not_lead_git_there(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "-q", "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other/.git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other/.git/index"))
    snapshot = take_snapshot(workspace, 1)
    monkeypatch.undo()
    assert read_snapshot(workspace, 1) == snapshot


def test_an_ignored_lock_and_a_folder_inside_a_repository_are_refused(
    workspace: Workspace,
) -> None:
    git(workspace.root, "init", "-q", str(workspace.root.parent))
    with (workspace.root / ".gitignore").open("a") as file:
        file.write("dvc.lock\n")
    with pytest.raises(LineageError, match=r"needs dvc\.lock, which git ignores"):
        take_snapshot(workspace, 1)
    subprocess.run(["rm", "-rf", str(workspace.root / ".git")], check=True)
    with pytest.raises(LineageError, match="lies inside the git repository"):
        take_snapshot(workspace, 1)


def test_killed_before_the_ref_moves_it_is_taken_again(workspace: Workspace) -> None:
    """SIGKILL after write-tree, and a lock of the index that a killed git left."""
    program = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "from distil_core.lineage.snapshot import take as snapshot\n"
        "from distil_core.workspace import Workspace\n"
        "real = snapshot.git\n"
        "def git(root, *arguments, **options):\n"
        "    if arguments[0] == 'update-ref':\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(root, *arguments, **options)\n"
        "snapshot.git = git\n"
        "snapshot.take_snapshot(Workspace(Path.cwd()), 1)\n"
    )
    project = str(Path(__file__).parents[3])
    before = state(workspace.root)
    killed = subprocess.run(
        [sys.executable, "-c", program],
        cwd=workspace.root,
        env=os.environ | {"PYTHONPATH": project},
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert read_snapshot(workspace, 1) is None
    (workspace.root / ".git" / "index.lock").touch()
    assert state(workspace.root) == before

    snapshot = ensure_snapshot(workspace, 1)

    assert read_snapshot(workspace, 1) == snapshot
    assert "dvc.lock" in files(workspace, snapshot.commit)
    (workspace.root / ".git" / "index.lock").unlink()
    assert state(workspace.root) == before
    git(workspace.root, "fsck", "--strict")


def cached(root: Path) -> set[str]:
    """MD5 of all that DVC's cache holds."""
    files = (root / ".dvc/cache/files/md5").glob("??/*")
    return {f"{file.parent.name}{file.name}" for file in files}


def test_what_only_a_snapshot_names_outlives_dvc_gc(workspace: Workspace) -> None:
    """`dvc gc --all-commits` asks branches, tags and remotes."""
    root = workspace.root
    first = cached(root)
    snapshot = take_snapshot(workspace, 1)
    for iteration in (0, 1):
        freeze(workspace, iteration, seed=2)
    for address in addresses():
        run_fake(workspace, address)
    second = cached(root) - first
    assert second
    dvc(root, "gc", "--all-commits", "--force", "--quiet")
    assert cached(root) >= first | second

    git(root, "update-ref", "-d", snapshot.ref.replace("refs/", "refs/tags/"))
    dvc(root, "gc", "--all-commits", "--force", "--quiet")
    assert cached(root) & (first | second) == second


def test_the_tag_follows_the_snapshot(workspace: Workspace) -> None:
    root = workspace.root
    tag = "refs/tags/distil/scratch/001"
    first = take_snapshot(workspace, 1)
    assert git(root, "rev-parse", tag).strip() == first.commit
    (root / "tasks/new.py").write_text("new = True\n")
    second = take_snapshot(workspace, 1)
    assert git(root, "rev-parse", tag).strip() == second.commit != first.commit
    git(root, "update-ref", "-d", tag)
    assert ensure_snapshot(workspace, 1) == second
    assert git(root, "rev-parse", tag).strip() == second.commit


def test_untracked_credentials_stay_out_and_are_named(workspace: Workspace) -> None:
    root = workspace.root
    (root / "presets").mkdir(exist_ok=True)
    kept = {
        "tasks/tokens.py": "MAX_TOKENS = 5\n",
        "presets/own.yaml": "max_tokens: 5\nprompt_cache_key: campaign\napi_key_variable: KEY\n",
        "presets/reads_key.yaml": "api_key: ${EXPERT_KEY}\npassword:\n",
    }
    out = {
        "tasks/.env": "A=b\n",
        "tasks/credentials.json": "{}",
        "flows/service-account.json": "{}",
        "presets/token.txt": "abc\n",
        "presets/with_key.yaml": 'model: x\napi_key: "abc"\n',
        "tasks/asks.py": 'KEY = "sk-abcdefghijklmnop0123"\n',
        "tasks/proxy.toml": 'proxy = "http://me:abc@host:3128"\n',
    }
    for path, text in (kept | out).items():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text(text)
    snapshot = take_snapshot(workspace, 1)
    found = set(files(workspace, snapshot.commit))
    assert kept.keys() <= found
    assert not out.keys() & found
    message = git(root, "log", "-1", "--format=%B", snapshot.commit)
    named = {path for path in out if f"left out: {path}, which holds credentials" in message}
    # Hidden files are never looked at.
    assert named == out.keys() - {"tasks/.env"}
    # What the user has given to git is the user's word.
    git(root, "add", "presets/with_key.yaml")
    assert "presets/with_key.yaml" in files(workspace, take_snapshot(workspace, 1).commit)
