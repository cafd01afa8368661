"""What a longer campaign left is set aside at a restart, and nothing of it is lost (15 s)."""

import shutil
from pathlib import Path

import pytest
from dvc_scratch import addresses, dvc, list_iterations, make_workspace, run_fake

from distil_core.lineage.dvc.digest import content_md5
from distil_core.lineage.dvc.former import frozen_files, set_aside
from distil_core.lineage.dvc.lock import read_entries
from distil_core.workspace import Workspace


@pytest.fixture(scope="module")
def longer(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A campaign with three iterations, all of them run."""
    workspace = make_workspace(tmp_path_factory.mktemp("longer") / "workspace", num_iterations=3)
    for address in addresses(3):
        run_fake(workspace, address)
    return workspace


@pytest.fixture
def workspace(longer: Workspace, tmp_path: Path) -> Workspace:
    shutil.copytree(longer.root, tmp_path / "copy", symlinks=True)
    return Workspace(tmp_path / "copy")


def restart_with_one(workspace: Workspace) -> dict[str, bytes]:
    """What `distil restart` does to the settings of a campaign that had three."""
    frozen = frozen_files(workspace)
    list_iterations(workspace, 1)
    for number in (2, 3):
        workspace.frozen_params_file(number).unlink()
    return frozen


def content(workspace: Workspace) -> dict[str, bytes]:
    files = (workspace.root / "data/iterations").rglob("*")
    return {workspace.relative(file): file.read_bytes() for file in files if file.is_file()}


def test_what_is_in_the_cache_is_removed_and_comes_back(workspace: Workspace) -> None:
    before, lock = content(workspace), (workspace.root / "dvc.lock").read_bytes()
    scores = workspace.scores_file(3)
    scores.parent.mkdir()
    scores.write_text("{}")
    former = set_aside(workspace, 1, restart_with_one(workspace))
    assert former is not None
    assert (former.iterations, former.num_moved) == ([2, 3], 0)
    assert not (workspace.root / "data/iterations/002").exists()
    assert not scores.exists()
    entries = read_entries(workspace)
    assert sorted(entries) == sorted(addresses(1))
    assert dvc(workspace.root, "status").strip() == "Data and pipelines are up to date."
    # All of it comes back.
    assert (former.kept / "dvc.lock").read_bytes() == lock
    shutil.copytree(former.kept, workspace.root, dirs_exist_ok=True)
    dvc(workspace.root, "checkout")
    assert content(workspace) == before
    assert dvc(workspace.root, "status").strip() == "Data and pipelines are up to date."


def test_what_the_cache_lacks_is_kept(workspace: Workspace) -> None:
    notes = workspace.iteration_dir(2) / "my notes.txt"
    notes.write_text("mine")
    changed = workspace.rollouts_file(3)
    changed.unlink()
    changed.write_bytes(b"edited by hand")
    feedback = workspace.feedback_dir(2)
    inside = next(file for file in feedback.rglob("*") if file.is_file())
    md5 = content_md5(inside)
    assert md5
    cached = workspace.root / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
    held = inside.read_bytes()
    cached.unlink()
    former = set_aside(workspace, 1, restart_with_one(workspace))
    assert former is not None
    assert former.num_moved >= 3
    kept = Workspace(former.kept)
    assert (kept.iteration_dir(2) / "my notes.txt").read_text() == "mine"
    assert kept.rollouts_file(3).read_bytes() == b"edited by hand"
    assert (kept.feedback_dir(2) / inside.relative_to(feedback)).read_bytes() == held
    assert not workspace.iteration_dir(3).exists()


def test_the_same_length_leaves_all_as_it_is(workspace: Workspace) -> None:
    before, lock = content(workspace), (workspace.root / "dvc.lock").read_bytes()
    assert set_aside(workspace, 3, frozen_files(workspace)) is None
    assert content(workspace) == before
    assert (workspace.root / "dvc.lock").read_bytes() == lock
    assert not (workspace.scratch_dir / "former").exists()
