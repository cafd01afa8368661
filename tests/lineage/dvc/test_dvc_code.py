"""Users' code as DVC and the front doors see it, and campaigns of before it was seen (20 s)."""

import json
from pathlib import Path

import pytest
import yaml
from dvc_scratch import addresses, dvc, make_workspace, run_fake

from distil_core.errors import LineageError
from distil_core.lineage.dvc.code import prepare_code
from distil_core.lineage.dvc.lock import lock_digest
from distil_core.lineage.dvc.stage import is_up_to_date
from distil_core.source_code import BUILT_IN_FILE
from distil_core.workspace import Workspace


def status(workspace: Workspace) -> set[str]:
    return set(json.loads(dvc(workspace.root, "status", "--json")))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Every stage of two iterations has run; iteration 2's `train` uses a module of a user's."""
    workspace = make_workspace(tmp_path / "campaign", num_iterations=2)
    package = workspace.root / "lab_d"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "focal.py").write_text("SCALE = 1\n")
    listing = yaml.safe_load(workspace.iterations_file.read_text())
    listing["iterations"]["002"]["code"]["train"] = "code/lab_d.focal"
    workspace.iterations_file.write_text(yaml.safe_dump(listing, default_style='"'))
    prepare_code(workspace)
    for address in addresses(2):
        run_fake(workspace, address)
    return workspace


def test_dvc_and_the_front_doors_see_an_edit(workspace: Workspace) -> None:
    assert status(workspace) == set()
    assert is_up_to_date(workspace, "gate@002")
    (workspace.root / "lab_d/focal.py").write_text("SCALE = 2\n")
    assert status(workspace) == {"train@002"}
    assert not is_up_to_date(workspace, "train@002")
    assert not is_up_to_date(workspace, "gate@002")
    assert is_up_to_date(workspace, "gate@001")
    with pytest.raises(
        LineageError, match=r"builds on train@002.*the code of lab_d\.focal changed"
    ):
        run_fake(workspace, "evaluate@002")
    assert run_fake(workspace, "train@002").status == "ran"
    assert status(workspace) == set()
    (workspace.root / "lab_d/focal.py").write_text("SCALE = 1\n")
    assert run_fake(workspace, "train@002").status == "restored"


def test_code_that_changes_while_its_stage_runs(workspace: Workspace) -> None:
    from distil_core.lineage.dvc.stage import run_stage

    def body() -> None:
        (workspace.root / "lab_d/focal.py").write_text("SCALE = 3\n")

    with pytest.raises(LineageError, match=r"code/lab_d\.focal changed while train@002 ran"):
        run_stage(workspace, "train@002", body, force=True)


def test_code_that_is_gone(workspace: Workspace) -> None:
    (workspace.root / "lab_d/focal.py").unlink()
    prepare_code(workspace)
    assert status(workspace) == {"train@002"}
    with pytest.raises(
        LineageError, match=r"train@002 needs code/.*missing: put lab_d\.focal back"
    ):
        run_fake(workspace, "train@002")


def test_an_upgrade_makes_nothing_stale(tmp_path: Path) -> None:
    """As it was before stages depended on code: neither listed nor recorded."""
    workspace = make_workspace(tmp_path / "campaign", num_iterations=2)
    for address in addresses(2):
        run_fake(workspace, address)
    new_lock, new_list = (workspace.root / "dvc.lock").read_text(), workspace.iterations_file
    lines = new_lock.splitlines(keepends=True)
    while f"    - path: {BUILT_IN_FILE}\n" in lines:
        start = lines.index(f"    - path: {BUILT_IN_FILE}\n")
        del lines[start : start + 4]
    old_lock = "".join(lines).replace("    deps:\n    params:", "    params:")
    listing = yaml.safe_load(new_list.read_text())
    del listing["code"]
    for entry in (*listing["iterations"].values(), *listing["evaluations"].values()):
        del entry["code"]
    (workspace.root / "dvc.lock").write_text(old_lock)
    new_list.write_text(yaml.safe_dump(listing, default_style='"'))
    (workspace.root / BUILT_IN_FILE).unlink()
    digests = [lock_digest(workspace, iteration) for iteration in range(3)]

    prepare_code(workspace)

    assert (workspace.root / "dvc.lock").read_text() == new_lock
    assert [lock_digest(workspace, iteration) for iteration in range(3)] == digests
    assert status(workspace) == set()
    for address in addresses(2):
        assert run_fake(workspace, address).status == "unchanged"
    before = (new_list.read_bytes(), (workspace.root / "dvc.lock").stat().st_mtime_ns)
    prepare_code(workspace)
    assert (new_list.read_bytes(), (workspace.root / "dvc.lock").stat().st_mtime_ns) == before
