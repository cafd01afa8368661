"""Git asked from inside another repository's hook: every answer is of the workspace's own. 5 s."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from dvc_scratch import addresses, git, make_workspace, run_fake

from distil_core.errors import LineageError
from distil_core.lineage.dvc.stage import is_up_to_date
from distil_core.lineage.environment import code
from distil_core.lineage.git import file_in_commit, git_or_none, own_environment
from distil_core.lineage.git import git as our_git
from distil_core.lineage.snapshot.recorded import locked_in, snapshot_of
from distil_core.lineage.snapshot.take import take_snapshot
from distil_core.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A scratch workspace, committed; no stage has run."""
    return make_workspace(tmp_path / "workspace")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Another repository, with a commit of its own."""
    root = tmp_path / "other"
    root.mkdir()
    git(root, "init", "-q")
    user = ("-c", "user.name=test", "-c", "user.email=t@example.org")
    git(root, *user, "commit", "-q", "--allow-empty", "-m", "theirs")
    return root


def in_a_hook_of(other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "GIT_DIR": other / ".git",
        "GIT_WORK_TREE": other,
        "GIT_INDEX_FILE": other / ".git/index",
        "GIT_OBJECT_DIRECTORY": other / ".git/objects",
        "GIT_COMMON_DIR": other / ".git",
        "GIT_NAMESPACE": "theirs",
        "GIT_PREFIX": "sub/",
    }.items():
        monkeypatch.setenv(name, str(value))


def test_everything_that_asks_git_is_told_of_the_workspace(
    workspace: Workspace, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = git(workspace.root, "rev-parse", "HEAD").strip()
    theirs = git(other, "status", "--porcelain"), sorted(map(str, other.rglob("*")))
    with monkeypatch.context() as patch:
        in_a_hook_of(other, patch)
        before = dict(os.environ)
        for address in addresses(1):
            assert run_fake(workspace, address).status == "ran"
        assert is_up_to_date(workspace, "gate@001")
        assert os.environ == before
        assert code(workspace).commit == head
        assert our_git(workspace.root, "rev-parse", "HEAD").strip() == head
        snapshot = take_snapshot(workspace, 1)
        assert locked_in(workspace, snapshot.commit) is not None
        assert snapshot_of(workspace, "scratch", 1, "of another run") is not None
        assert locked_in(workspace, head) is None
    assert git(workspace.root, "rev-parse", snapshot.ref).strip() == snapshot.commit
    # Also what DVC told git to ignore, and nothing of it, is in the other one.
    assert git(workspace.root, "status", "--porcelain", "data") == ""
    assert (git(other, "status", "--porcelain"), sorted(map(str, other.rglob("*")))) == theirs


def test_a_real_hook(workspace: Workspace, other: Path) -> None:
    """As `pre-commit` of another repository that asks about this one."""
    head = git(workspace.root, "rev-parse", "HEAD").strip()
    hook = other / ".git/hooks/pre-commit"
    program = (
        "from pathlib import Path; from distil_core.lineage.git import git; "
        f"print(git(Path({str(workspace.root)!r}), 'rev-parse', 'HEAD').strip())"
    )
    hook.write_text(f'#!/bin/sh\n"$PYTHON" -c "{program}" > said\n')
    hook.chmod(0o755)

    user = ("-c", "user.name=test", "-c", "user.email=t@example.org")
    subprocess.run(
        ["git", *user, "commit", "-q", "--allow-empty", "-m", "more"],
        cwd=other,
        check=True,
        env=os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert (other / "said").read_text().strip() == head


def test_every_variable_that_git_calls_local_is_left_out(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But those through which configuration comes: safe.directory in a container, for one."""
    local = git(workspace.root, "rev-parse", "--local-env-vars").split()
    for name in local:
        monkeypatch.setenv(name, "x")
    kept = {"GIT_CONFIG_COUNT", "GIT_CONFIG_PARAMETERS"}
    assert own_environment().keys() & set(local) == kept & set(local)


def test_what_is_not_there_is_none_and_what_git_refuses_is_an_error(
    workspace: Workspace, tmp_path: Path
) -> None:
    root = workspace.root
    assert file_in_commit(root, "HEAD", "nothing.txt") is None
    assert file_in_commit(root, "1" * 40, "dvc.yaml") is None
    assert file_in_commit(root, "HEAD", "dvc.yaml") == (root / "dvc.yaml").read_text()
    assert git_or_none(root, "rev-parse", "--verify", "--quiet", "nothing") is None
    bare = tmp_path / "bare"
    bare.mkdir()
    with pytest.raises(LineageError, match=r"not a git repository.*git init && dvc init"):
        code(Workspace(bare))
