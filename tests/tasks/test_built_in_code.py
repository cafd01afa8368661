"""Editing DistIL's own components: history stays, and every command says so (1 min).

Each workspace has a copy of the project's code, which is edited there.
"""

import sys
from pathlib import Path

import pytest
import yaml

from distil_core.workspace import Workspace

sys.path.append(str(Path(__file__).parents[1] / "flows"))

import front_door_scratch as scratch

SOURCE = "distil_core/problems/chain_arithmetic.py"
PROBLEMS = ("distil_tasks.problems",)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Frozen, and its problems made."""
    workspace = scratch.make_workspace(tmp_path / "workspace")
    for arguments in (("distil_flows.cli", "restart"), PROBLEMS):
        status, output = scratch.run(workspace.root, *arguments)
        assert status == 0, output
    return workspace


def edit(workspace: Workspace, name: str, old: str, new: str) -> None:
    path = workspace.root / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def frozen(workspace: Workspace) -> dict[str, object]:
    versions: dict[str, object] = yaml.safe_load(workspace.frozen_params_file(0).read_text())
    return versions["stage_versions"]  # type: ignore[return-value]


def test_a_comment_is_no_other_code(workspace: Workspace) -> None:
    edit(workspace, SOURCE, '"""', '"""Other words. ')
    (workspace.root / SOURCE).write_text((workspace.root / SOURCE).read_text() + "\n# a note\n")
    status, output = scratch.run(workspace.root, *PROBLEMS)
    assert (status, len(output.splitlines())) == (0, 1)
    assert output.startswith("problems: unchanged")


def test_other_code_is_said_and_does_not_run_under_the_old_name(workspace: Workspace) -> None:
    before = frozen(workspace)
    (workspace.root / SOURCE).write_text((workspace.root / SOURCE).read_text() + "\nOTHER = 1\n")
    status, output = scratch.run(workspace.root, *PROBLEMS)
    first, second = output.splitlines()
    assert (status, first.startswith("problems: unchanged")) == (0, True)
    assert second.startswith("problems of iteration 0 was made with other code than there is now:")
    assert "problem source chain_arithmetic (problems.base, problems.chain_arithmetic)" in second

    status, output = scratch.run(workspace.root, *PROBLEMS, "--force")
    assert (status, "problems has to run, but its code is not what" in output) == (1, True)
    status, output = scratch.run(workspace.root, "dvc", "repro", "--force", "problems")
    assert (status != 0, "problems has to run, but its code is not what" in output) == (True, True)
    assert frozen(workspace) == before

    # A new start takes the code of now: what it changes is made anew.
    assert scratch.run(workspace.root, "distil_flows.cli", "restart")[0] == 0
    assert frozen(workspace)["problems"] != before["problems"]
    assert frozen(workspace)["sample"] == before["sample"]
    status, output = scratch.run(workspace.root, *PROBLEMS)
    assert (status, output.startswith("problems: ran")) == (0, True)
    assert len(output.splitlines()) == 1


def test_a_stage_that_never_ran_takes_the_code_of_now(workspace: Workspace) -> None:
    before = frozen(workspace)
    name = "distil_core/verifiers/chain_arithmetic.py"
    (workspace.root / name).write_text((workspace.root / name).read_text() + "\nOTHER = 1\n")
    status, output = scratch.run(workspace.root, "distil_tasks.base")
    assert (status, output.startswith("base: ran")) == (0, True)
    after = frozen(workspace)
    assert after["base"] != before["base"]
    assert after["problems"] == before["problems"]
    status, output = scratch.run(workspace.root, "distil_tasks.base")
    assert (status, len(output.splitlines())) == (0, 1)
