"""What the optional experts and tables mean to DVC, in a real repository (about 20 s)."""

import importlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from distil_core.campaign.iterations import restart
from distil_core.lineage.dvc.stage import StageOutcome, is_up_to_date
from distil_core.lineage.evidence.iteration import History
from distil_core.workspace import Workspace
from distil_tasks.stage import StageSpec

PROJECT = Path(__file__).parents[2]
STAGES = ("sample", "consult", "tabulate", "train")


def stage(name: str) -> StageSpec:
    spec: StageSpec = importlib.import_module(f"distil_tasks.{name}").STAGE
    return spec


def run(workspace: Workspace, name: str, iteration: int) -> StageOutcome:
    from distil_tasks.stage import run as run_stage

    return run_stage(stage(name), workspace, iteration)


def freeze(workspace: Workspace, values: dict[str, Any]) -> None:
    workspace.params_file.write_text(yaml.safe_dump(values, sort_keys=False))
    names = ("problems", "base", *STAGES, "evaluate", "gate")
    versions = {name: stage(name).version for name in names}
    restart(workspace, versions)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    for name in ("dvc.yaml", "iterations.yaml", ".dvcignore", ".dvc/config", ".dvc/.gitignore"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, tmp_path / name)
    (tmp_path / "data").mkdir()
    shutil.copy(PROJECT / "data/.gitignore", tmp_path / "data/.gitignore")
    (tmp_path / ".gitignore").write_text("/.distil/\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    return Workspace(tmp_path)


@pytest.fixture
def values() -> dict[str, Any]:
    settings: dict[str, Any] = yaml.safe_load((PROJECT / "params.yaml").read_text())
    settings["num_iterations"] = 2
    settings["problems"] |= {"num_warm_start": 60, "num_train": 40, "num_eval": 4}
    settings["problems"]["generalisation"] = None
    settings["gate"] |= {
        "margins": {"pass_at_1": 1.0},
        "alarms": dict.fromkeys(settings["gate"]["alarms"]) | {"pass_at_n_fell": False},
    }
    settings["base"]["phases"] = [{"num_steps": 2, "correction_fraction": 0.2}]
    settings["base"] |= {"batch_size": 8, "warmup_steps": 1}
    settings["sample"] |= {"num_prompts": 6, "num_rollouts": 2, "max_new_tokens": 4}
    settings["train"] |= {"num_steps": 1, "batch_rollouts": 12}
    return settings


def test_older_tables_and_the_average_are_part_of_what_dvc_watches(
    workspace: Workspace, values: dict[str, Any]
) -> None:
    values["train"] |= {"num_tables": "all", "average_decay": 0.9}
    values["tabulate"]["expert"]["options"]["weights"] = "ema"
    freeze(workspace, values)
    listed = yaml.safe_load(workspace.iterations_file.read_text())["iterations"]
    assert listed["002"]["expert_policy"] == "data/iterations/001/handover"
    run(workspace, "problems", 0)
    run(workspace, "base", 0)
    run(workspace, "evaluate", 0)
    for name in (*STAGES, "evaluate", "gate"):
        assert run(workspace, name, 1).status == "ran"
    for name in STAGES:
        assert run(workspace, name, 2).status == "ran"
    status = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "train@001", "train@002"],
        cwd=workspace.root,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "up to date" in status.stdout
    before = run(workspace, "train", 2)
    assert before.status == "unchanged"
    # Another table of iteration 1, same number of rows: train@002 learns of it through its parent.
    values["tabulate"]["top_k"] = 5
    freeze(workspace, values)
    assert not is_up_to_date(workspace, "train@002")
    run(workspace, "tabulate", 1)
    for name in ("train", "evaluate", "gate"):
        assert run(workspace, name, 1).status == "ran"
    for name in STAGES:
        after = run(workspace, name, 2)
    assert after.status == "ran"
    assert after.outputs != before.outputs
    # DVC brings back policy and average together.
    average = workspace.average_dir(1) / "model.safetensors"
    content = average.read_bytes()
    shutil.rmtree(workspace.policy_dir(1))
    checkout = [sys.executable, "-m", "dvc", "checkout", "-q", "data/iterations/001/policy"]
    subprocess.run(checkout, cwd=workspace.root, check=True)
    assert average.read_bytes() == content


def test_the_champion_is_part_of_what_dvc_watches(
    workspace: Workspace, values: dict[str, Any]
) -> None:
    """Policy 1 is not promoted, since its sampler is another, and handed over all the same."""
    values["tabulate"]["expert"]["options"]["weights"] = "champion"
    values["gate"] |= {"on_regression": "continue", "keep_champion": True}
    freeze(workspace, values)
    frozen = workspace.frozen_params_file(1)
    text = frozen.read_text()
    other = yaml.safe_load(text)
    other["evaluate"]["temperature"] = 0.5
    frozen.write_text(yaml.safe_dump(other))
    for name in ("problems", "base", "evaluate"):
        run(workspace, name, 0)
    for iteration in (1, 2):
        for name in (*STAGES, "evaluate", "gate"):
            assert run(workspace, name, iteration).status == "ran"
    weights = (workspace.parent_champion_dir(2) / "model.safetensors").read_bytes()
    assert workspace.parent_champion_dir(2) == workspace.handover_dir(1) / "champion"
    assert weights == (workspace.policy_dir(0) / "model.safetensors").read_bytes()
    history = History(workspace)
    assert (history[2].parent, history[2].expert) == (1, 0)
    table = workspace.feedback_dir(2)
    before = {file.name: file.read_bytes() for file in table.glob("*.parquet")}
    # DVC brings the champion back with the policy that it came along with, to the same table.
    shutil.rmtree(workspace.handover_dir(1))
    checkout = [sys.executable, "-m", "dvc", "checkout", "-q", "data/iterations/001/handover"]
    subprocess.run(checkout, cwd=workspace.root, check=True)
    assert is_up_to_date(workspace, "tabulate@002")
    # Where policy 1 is promoted, the same policy is handed over, and the expert is another one.
    frozen.write_text(text)
    for name in ("evaluate", "gate"):
        assert run(workspace, name, 1).status == "ran"
    assert workspace.parent_champion_dir(2) == workspace.handover_dir(1)
    assert not is_up_to_date(workspace, "tabulate@002")
    assert run(workspace, "sample", 2).status == "ran"
    assert run(workspace, "consult", 2).status in ("ran", "unchanged")
    assert run(workspace, "tabulate", 2).status == "ran"
    assert before != {file.name: file.read_bytes() for file in table.glob("*.parquet")}


def test_other_weights_in_a_white_box_make_the_table_stale(
    workspace: Workspace, values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    values["num_iterations"] = 1
    freeze(workspace, values)
    for name in ("problems", "base"):
        run(workspace, name, 0)
    expert = tmp_path_factory.mktemp("outside") / "expert"
    shutil.copytree(workspace.policy_dir(0), expert)
    values["tabulate"]["expert"] = {
        "name": "white_box",
        "options": {"path": str(expert), "batch_size": 8},
    }
    freeze(workspace, values)
    for name in ("sample", "consult", "tabulate"):
        assert run(workspace, name, 1).status == "ran"
    assert run(workspace, "tabulate", 1).status == "unchanged"
    (expert / "generation_config.json").write_text("{}")
    assert run(workspace, "tabulate", 1).status == "ran"
