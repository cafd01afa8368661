"""Workspaces of several seeds: what they hold, and when they are made."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from distil_core.compare.seeds import chosen_seeds, make_seed_workspaces, seeds_folder
from distil_core.errors import ConfigError
from distil_core.lineage.dvc.config import cache_config
from distil_core.workspace import Workspace

sys.path.append(str(Path(__file__).parents[1] / "flows"))
import front_door_scratch as scratch

MODULE = """\
from distil_core.objectives.forward_cross_entropy import Options, build

__all__ = ["Options", "build"]
"""


@pytest.fixture(autouse=True)
def _somebody_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"user.name": "test", "user.email": "test@example.org"}
    monkeypatch.setenv("GIT_CONFIG_COUNT", str(len(settings)))
    for place, (name, value) in enumerate(settings.items()):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{place}", name)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{place}", value)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    params = scratch.tiny(yaml.safe_load((scratch.PROJECT / "params.yaml").read_text("utf-8")))
    params.update(seed=7)
    return scratch.make_workspace(tmp_path / "workspace", params)


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout


def test_each_is_a_workspace_of_its_own(workspace: Workspace) -> None:
    made = make_seed_workspaces(workspace, "3")
    assert [each.seed for each in made] == [7, 8, 9]
    assert all(each.is_new for each in made)
    own = yaml.safe_load(workspace.params_file.read_text("utf-8"))
    for each in made:
        root = each.workspace.root
        assert root == workspace.root / "seeds" / f"seed-{each.seed}"
        found = yaml.safe_load(each.workspace.params_file.read_text("utf-8"))
        assert found["seed"] == each.seed
        assert found["train"] | own["train"] == found["train"]
        assert git(root, "rev-parse", "--show-toplevel").strip() == str(root.resolve())
        assert git(root, "status", "--porcelain") == ""
        assert git(root, "rev-list", "--count", "HEAD").strip() == "1"
        assert (root / "dvc.yaml").read_text() == (workspace.root / "dvc.yaml").read_text()
    assert not any(each.is_new for each in make_seed_workspaces(workspace, "3"))


def test_the_workspace_around_them_does_not_see_them(workspace: Workspace) -> None:
    before = git(workspace.root, "status", "--porcelain")
    make_seed_workspaces(workspace, "1")
    assert git(workspace.root, "status", "--porcelain") == before == ""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "stage", "list", "--all"],
        cwd=workspace.root,
        env=os.environ | {"DVC_NO_ANALYTICS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "seeds/" not in done.stdout + done.stderr


def test_they_share_the_cache(workspace: Workspace, tmp_path: Path) -> None:
    elsewhere = tmp_path / "cache"
    (workspace.root / ".dvc/config.local").write_text(
        f"[cache]\n    dir = {elsewhere}\n    type = hardlink,symlink\n"
    )
    [made] = make_seed_workspaces(workspace, "1")
    found = cache_config(made.workspace)
    assert (found["dir"], found["type"]) == (str(elsewhere), ["hardlink", "symlink"])
    (workspace.root / ".dvc/config.local").unlink()
    [other] = make_seed_workspaces(workspace, "70,71")[1:]
    assert cache_config(other.workspace)["dir"] == str(workspace.root / ".dvc/cache")


def test_components_of_the_workspace_come_along(workspace: Workspace) -> None:
    root = workspace.root
    (root / "my_lab").mkdir()
    (root / "my_lab/__init__.py").touch()
    (root / "my_lab/own_objective.py").write_text(MODULE)
    (root / "shared.yaml").write_text(workspace.params_file.read_text())
    values = {
        "extends": "shared.yaml",
        "train": {"objective": {"name": "my_lab.own_objective", "options": {}}},
    }
    workspace.params_file.write_text(yaml.safe_dump(values))
    [made] = make_seed_workspaces(workspace, "1")
    assert (made.workspace.root / "my_lab/own_objective.py").read_text() == MODULE
    found = yaml.safe_load(made.workspace.params_file.read_text("utf-8"))
    assert "extends" not in found
    assert found["train"]["objective"]["name"] == "my_lab.own_objective"
    assert found["base"]["batch_size"] == 16


def test_files_that_git_does_not_keep_are_linked(workspace: Workspace) -> None:
    root = workspace.root
    (root / "own").mkdir()
    (root / "own/train.jsonl").write_text('{"question": "1+1?", "answer": "#### 2"}\n')
    (root / "models/student").mkdir(parents=True)
    (root / ".gitignore").write_text((root / ".gitignore").read_text() + "/own/\n/models/\n")
    values = yaml.safe_load((scratch.PROJECT / "examples/gsm8k/params.yaml").read_text("utf-8"))
    values["base"]["path_or_id"] = "models/student"
    values["problems"]["source"]["options"]["train"]["path"] = "own/train.jsonl"
    workspace.params_file.write_text(yaml.safe_dump(values))
    [made] = make_seed_workspaces(workspace, "1")
    there = made.workspace.root
    assert (there / "own/train.jsonl").readlink() == root / "own/train.jsonl"
    assert (there / "models/student").readlink() == root / "models/student"
    assert not (there / "own").is_symlink()
    assert git(there, "status", "--porcelain") == ""


def test_with_other_settings_they_are_made_anew_until_something_ran(workspace: Workspace) -> None:
    [made] = make_seed_workspaces(workspace, "1")
    text = workspace.params_file.read_text("utf-8")
    workspace.params_file.write_text(text.replace("num_steps: 2\n", "num_steps: 3\n"))
    [again] = make_seed_workspaces(workspace, "1")
    assert again.is_new
    assert "num_steps: 3" in made.workspace.params_file.read_text("utf-8")
    (made.workspace.root / "dvc.lock").write_text("schema: '2.0'\n")
    workspace.params_file.write_text(text)
    with pytest.raises(ConfigError, match=r"other settings.*train\.num_steps: 3 → 2.*move .*seeds"):
        make_seed_workspaces(workspace, "1")
    assert made.workspace.params_file.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [("0", "at least one"), ("-1", "expected a number"), ("x", "expected"), ("3,3", "twice")],
)
def test_seeds_that_are_none_are_refused(workspace: Workspace, text: str, message: str) -> None:
    from distil_core.campaign.load import load_params

    with pytest.raises(ConfigError, match=message):
        chosen_seeds(load_params(workspace), text)
    assert not seeds_folder(workspace).exists()
