"""Finished iterations in real trackers, read back from what their own programs wrote."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from mlflow_scratch import edit_lock, make_campaign, rerun, write_settings
from wandb_file import read_run

from distil_core.errors import ExportError
from distil_core.lineage.trackers.track import track
from distil_core.workspace import Workspace

Points = list[tuple[int, dict[str, float]]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Read only."""
    return make_campaign(tmp_path_factory.mktemp("trackers") / "campaign", 2)


@pytest.fixture
def campaign(finished: Workspace, tmp_path: Path) -> Workspace:
    shutil.copytree(finished.root, tmp_path / "campaign")
    return Workspace(tmp_path / "campaign")


def _track(workspace: Workspace, name: str, **variables: str) -> str:
    """In a process of its own, as `distil track` is: a tracker holds on to threads and folders."""
    (workspace.root / "params.yaml").touch()
    done = subprocess.run(
        [sys.executable, "-m", "distil_flows.cli", "track", name],
        cwd=workspace.root,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


class _Trackio:
    name = "trackio"

    def __init__(self, folder: Path):
        self.folder = folder

    def track(self, workspace: Workspace) -> str:
        return _track(workspace, self.name, TRACKIO_DIR=str(self.folder))

    def read(self, workspace: Workspace) -> dict[str, tuple[dict[str, Any], Points]]:
        """By name, through trackio's own command."""
        script = (
            "import json, sys, trackio\n"
            "from trackio.sqlite_storage import SQLiteStorage\n"
            "runs = trackio.Api().runs(sys.argv[1])\n"
            "logs = SQLiteStorage.get_logs\n"
            "found = [(r.name, r.config, logs(r.project, r.name)) for r in runs]\n"
            "print(json.dumps(found))\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, "chain-arithmetic"],
            env={**os.environ, "TRACKIO_DIR": str(self.folder)},
            capture_output=True,
            text=True,
            check=True,
        )
        names = Counter(name for name, _, _ in json.loads(done.stdout))
        assert set(names.values()) == {1}
        return {
            name: (
                config,
                [(row["step"], {k: v for k, v in row.items() if "/" in k}) for row in logs],
            )
            for name, config, logs in json.loads(done.stdout)
        }


class _Wandb:
    name = "wandb"

    def __init__(self, folder: Path):
        self.folder = folder

    def track(self, workspace: Workspace) -> str:
        return _track(workspace, self.name, WANDB_MODE="offline")

    def read(self, workspace: Workspace) -> dict[str, tuple[dict[str, Any], Points]]:
        found: dict[str, tuple[dict[str, Any], Points]] = {}
        files = (workspace.scratch_dir / "wandb").glob("offline-run-*/*.wandb")
        for file in sorted(files, key=lambda path: path.stat().st_mtime):
            run = read_run(file)
            assert run["exit_code"] == 0
            assert run["project"] == run["group"] == "chain-arithmetic"
            points = [
                (step, {k: v for k, v in figures.items() if "/" in k})
                for step, figures in run["points"]
            ]
            config, before = found.get(run["name"], (run["config"], []))
            found[run["name"]] = (config, before + points)
        return found


@pytest.fixture(params=[_Trackio, _Wandb], ids=lambda kind: kind.name)
def tracker(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    pytest.importorskip(request.param.name, reason=f"{request.param.name} is not installed")
    return request.param(tmp_path / "store")


def _merged(points: Points) -> dict[int, dict[str, float]]:
    by_step: dict[int, dict[str, float]] = {}
    for step, figures in points:
        by_step.setdefault(step, {}).update(figures)
    return by_step


def test_curves_scores_settings_and_lineage_arrive(campaign: Workspace, tracker: Any) -> None:
    said = tracker.track(campaign)
    assert said.startswith(f"{tracker.name}: 3 iterations written now. To see them: "), said
    runs = tracker.read(campaign)
    names = sorted(name for name in runs if name.startswith("iteration"))
    assert [name[:13] for name in names] == ["iteration 000", "iteration 001", "iteration 002"]
    config, points = runs[names[2]]
    assert config["train.learning_rate"] == "0.0005"
    assert config["distil.parent"] == "001"
    assert config["distil.policy_path"] == "data/iterations/002/policy"
    by_step = _merged(points)
    curve = campaign.train_curve_file(2).read_text().splitlines()
    header, rows = curve[0].split(","), [line.split(",") for line in curve[1:]]
    assert sorted(by_step) == [int(row[0]) for row in rows]
    for row in rows:
        for column, value in list(zip(header, row, strict=True))[1:]:
            assert by_step[int(row[0])][f"train/{column}"] == float(value)
    metrics = json.loads(campaign.metrics_file(2).read_text())
    last = by_step[max(by_step)]
    assert last["evaluation/pass_at_1"] == metrics["pass_at_1"]
    assert last["gate/from_parent/pass_at_1_low"] == 0.08


def test_the_learning_curve_goes_on_with_the_campaign(campaign: Workspace, tracker: Any) -> None:
    whole = (campaign.root / "dvc.lock").read_text()
    for address in ("train@002", "evaluate@002", "gate@002"):
        edit_lock(campaign, address)
    assert tracker.track(campaign).startswith(
        f"{tracker.name}: 2 iterations written now. To see them: "
    )
    (campaign.root / "dvc.lock").write_text(whole)
    assert tracker.track(campaign).startswith(
        f"{tracker.name}: 1 iterations written now. To see them: "
    )
    assert tracker.track(campaign).startswith(
        f"{tracker.name}: 0 iterations written now. To see them: "
    )
    learning = {
        name: _merged(points)
        for name, (_, points) in tracker.read(campaign).items()
        if name.startswith("learning")
    }
    assert len(learning) == 1
    (curve,) = learning.values()
    scores = [json.loads(campaign.metrics_file(i).read_text())["pass_at_8"] for i in range(3)]
    assert [curve[step]["evaluation/pass_at_8"] for step in sorted(curve)] == scores


def test_a_chain_with_another_result_is_a_run_of_its_own(campaign: Workspace, tracker: Any) -> None:
    tracker.track(campaign)
    metrics = json.loads(campaign.metrics_file(2).read_text())
    other = metrics | {"pass_at_1": 0.125}
    rerun(campaign, "evaluate@002", campaign.metrics_file(2), json.dumps(other))
    assert tracker.track(campaign).startswith(
        f"{tracker.name}: 1 iterations written now. To see them: "
    )
    runs = tracker.read(campaign)
    assert len([name for name in runs if name.startswith("iteration 002")]) == 2
    curves = [_merged(points) for name, (_, points) in runs.items() if name.startswith("learning")]
    scores = {curve[2]["evaluation/pass_at_1"] for curve in curves}
    assert scores == {0.125, metrics["pass_at_1"]}


def test_a_missing_package_says_which_extra(finished: Workspace) -> None:
    script = "import sys; sys.modules['wandb'] = None\n"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            script
            + "from pathlib import Path\n"
            + "from distil_core.lineage.trackers.track import track\n"
            + "from distil_core.workspace import Workspace\n"
            + "track(Workspace(Path(sys.argv[1])), 'wandb', None)\n",
            finished.root,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "pip install 'distil[wandb]'" in done.stderr


def test_a_server_that_is_not_there_is_an_error_and_nothing_is_noted(campaign: Workspace) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    said = _track(
        campaign,
        "wandb",
        WANDB_MODE="online",
        WANDB_API_KEY="0" * 40,
        WANDB_BASE_URL="http://127.0.0.1:9",
        WANDB_INIT_TIMEOUT="5",
    )
    assert "distil: wandb did not take iteration 000" in said, said
    assert not list((campaign.scratch_dir).glob("tracked/*"))


def test_a_damaged_note_is_said(campaign: Workspace) -> None:
    pytest.importorskip("trackio", reason="trackio is not installed")
    note = campaign.scratch_dir / "tracked" / "trackio-chain-arithmetic.json"
    note.parent.mkdir(parents=True)
    note.write_text("[]")
    with pytest.raises(ExportError, match="expected a note of what was tracked"):
        track(campaign, "trackio", None)


def test_nothing_finished_is_said(campaign: Workspace) -> None:
    write_settings(campaign, 0, seed=1)
    with pytest.raises(ExportError, match="nothing to track yet"):
        track(campaign, "trackio", None)
