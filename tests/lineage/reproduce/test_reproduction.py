"""Iterations run again from their snapshots, with real git, DVC and processes."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from dvc_scratch import addresses, dvc, git, make_workspace, run_fake

from distil_core.errors import LineageError
from distil_core.lineage.dvc.config import has_remote
from distil_core.lineage.dvc.remote import push_iteration
from distil_core.lineage.reproduce.rerun import Comparison, reproduce, require_snapshot
from distil_core.lineage.reproduce.worktree import temporary_worktree
from distil_core.lineage.snapshot.take import take_snapshot
from distil_core.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = make_workspace(tmp_path / "campaign", 2)
    for address in addresses(2):
        run_fake(workspace, address)
    take_snapshot(workspace, 2)
    return workspace


def again(workspace: Workspace, **options: bool) -> list[Comparison]:
    snapshot = require_snapshot(workspace, "scratch", 2)
    return reproduce(workspace, snapshot, 2, lambda text: None, **options)


def contents(root: Path) -> dict[str, bytes]:
    """All that must stay as it is: files, lock, cache."""
    skipped = (".git/", ".dvc/tmp/")
    return {
        name: path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not (name := str(path.relative_to(root))).startswith(skipped)
    }


@pytest.mark.parametrize(("from_scratch", "count"), [(False, 12), (True, 32)])
def test_all_is_equal_and_nothing_of_the_users_touched(
    workspace: Workspace, from_scratch: bool, count: int
) -> None:
    before = contents(workspace.root)
    compared = again(workspace, from_scratch=from_scratch)
    assert len(compared) == count
    assert all(comparison.equal for comparison in compared)
    assert contents(workspace.root) == before
    assert git(workspace.root, "worktree", "list").count("\n") == 1


def test_a_worktree_that_cannot_be_removed_spoils_nothing(workspace: Workspace) -> None:
    said: list[str] = []
    commit = require_snapshot(workspace, "scratch", 2).commit
    with temporary_worktree(workspace, commit, said.append) as tree:
        git(workspace.root, "worktree", "lock", str(tree.root))
    (line,) = said
    assert f"could not be removed, and is not needed any more: {tree.root.parent} (" in line
    assert "remove it, then `git worktree prune`" in line
    git(workspace.root, "worktree", "unlock", str(tree.root))
    shutil.rmtree(tree.root.parent)
    git(workspace.root, "worktree", "prune")
    assert git(workspace.root, "worktree", "list").count("\n") == 1


def test_other_code_is_seen_and_how_far_apart_its_results_are(workspace: Workspace) -> None:
    fake = workspace.root / "tasks/train.py"
    fake.write_text(
        fake.read_text()
        + "from pathlib import Path\n"
        + "Path('data/iterations/002/train_curve.csv').write_text('step,loss\\n0,0.5\\n')\n"
    )
    take_snapshot(workspace, 2)
    compared = {c.path: c for c in again(workspace)}
    unequal = [path for path, comparison in compared.items() if not comparison.equal]
    assert unequal == ["data/iterations/002/train_curve.csv"]
    assert compared[unequal[0]].differences


def test_a_fresh_clone_with_a_folder_as_remote(workspace: Workspace, tmp_path: Path) -> None:
    root = workspace.root
    assert not has_remote(workspace)
    dvc(root, "remote", "add", "--default", "store", str(tmp_path / "store"))
    assert has_remote(workspace)
    assert push_iteration(workspace, 2) > 0
    assert push_iteration(workspace, 2) == 0
    # The remote is named in the snapshot alone: the branch was never told.
    take_snapshot(workspace, 2)
    git(tmp_path, "clone", "-q", str(root), "clone")
    clone = Workspace(tmp_path / "clone")
    with pytest.raises(LineageError, match=r"there are: none.*git fetch origin"):
        require_snapshot(clone, "scratch", 2)
    git(clone.root, "fetch", "-q", "origin", "refs/distil/*:refs/distil/*")
    assert all(comparison.equal for comparison in again(clone))
    shutil.rmtree(tmp_path / "store")
    shutil.rmtree(clone.root / ".dvc/cache")
    with pytest.raises(LineageError, match=r"dvc push"):
        again(clone)


def test_missing_data_without_a_remote_and_a_stage_that_fails(workspace: Workspace) -> None:
    (workspace.root / "tasks/gate.py").write_text("raise SystemExit('no gate today')\n")
    take_snapshot(workspace, 2)
    with pytest.raises(LineageError, match=r"(?s)gate@002 failed.*no gate today"):
        again(workspace)
    shutil.rmtree(workspace.root / ".dvc/cache")
    with pytest.raises(LineageError, match="there is no DVC remote"):
        again(workspace)
    assert git(workspace.root, "worktree", "list").count("\n") == 1


def test_a_damaged_input_is_not_taken_for_the_recorded_one(workspace: Workspace) -> None:
    for path in (workspace.root / ".dvc/cache/files/md5").rglob("*"):
        if path.is_file() and not path.name.endswith(".dir"):
            os.chmod(path, 0o644)
            path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(LineageError, match=r"damaged|no DVC remote"):
        again(workspace)


def test_an_unknown_iteration_names_those_there_are(workspace: Workspace) -> None:
    with pytest.raises(LineageError, match=r"no snapshot of scratch/7; there are: scratch/2"):
        require_snapshot(workspace, "scratch", 7)


def test_a_remote_that_is_down_is_an_error_that_says_what_to_do(workspace: Workspace) -> None:
    dvc(workspace.root, "remote", "add", "--default", "store", "/proc/no/such/folder")
    with pytest.raises(LineageError, match=r"recorded here, but `dvc push`.*then `dvc push`"):
        push_iteration(workspace, 2)


def test_users_hooks_do_not_run(workspace: Workspace, tmp_path: Path) -> None:
    hook = workspace.root / ".git/hooks/post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    subprocess.run(["chmod", "+x", str(hook)], check=True)
    again(workspace)
    assert not (tmp_path / "ran").exists()
