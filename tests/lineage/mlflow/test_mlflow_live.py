"""Figures of a stage in MLflow while it works, by the real process (60 s: it imports MLflow)."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from distil_core.lineage.mlflow.live import (
    EVERY_S,
    LiveFigures,
    live_experiment,
    live_figures,
    live_file,
)
from distil_core.workspace import Workspace

ADDRESS = "train@003"
LOSSES = (0.75, 0.5, 0.25)
WAIT_S = 300


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "campaign").mkdir()
    return Workspace(tmp_path / "campaign")


def work(live: LiveFigures, losses: tuple[float, ...] = LOSSES) -> None:
    """As a stage does whose steps take a while."""
    for step, loss in enumerate(losses, start=1):
        live.figures(step, {"loss": loss, "step": step - 1})
        time.sleep(EVERY_S)


def client(workspace: Workspace) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(f"sqlite:///{workspace.mlflow_database}")


def live_runs(workspace: Workspace) -> list[Any]:
    found = client(workspace)
    experiment = found.get_experiment_by_name(live_experiment("chains"))
    return list(found.search_runs([experiment.experiment_id]))


def test_a_stage_that_takes_long_has_a_run_of_its_own(workspace: Workspace) -> None:
    # The second run of the stage takes the place of the first.
    for losses in ((0.9,), LOSSES):
        live = LiveFigures(workspace, "chains", ADDRESS, start_after_s=0)
        work(live, losses)
        live.close("FINISHED")
        assert live.writer
        assert live.writer.wait(WAIT_S) == 0, live_file(workspace, ADDRESS).read_text()
    (run,) = live_runs(workspace)
    assert (run.info.run_name, run.info.status) == (ADDRESS, "FINISHED")
    assert run.data.tags["distil.role"] == "live"
    history = client(workspace).get_metric_history(run.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == list(enumerate(LOSSES, start=1))
    assert list(run.data.metrics) == ["train/loss"]
    assert client(workspace).get_experiment_by_name("chains") is None, "the record is apart"


def test_it_is_written_while_the_stage_works_and_a_killed_stage_is_marked(
    workspace: Workspace,
) -> None:
    program = f"""
import sys, time
from pathlib import Path
from distil_core.lineage.mlflow.live import LiveFigures
from distil_core.workspace import Workspace
live = LiveFigures(Workspace(Path({str(workspace.root)!r})), "chains", {ADDRESS!r}, 0)
for step in range(10**6):
    live.figures(step, {{"loss": 0.5}})
    time.sleep(0.6)
"""
    stage = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
    try:
        deadline = time.monotonic() + WAIT_S
        while not _has_running(workspace):
            assert stage.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.5)
    finally:
        stage.kill()
        stage.wait()
    while live_runs(workspace)[0].info.status != "KILLED":
        assert time.monotonic() < deadline + WAIT_S
        time.sleep(0.5)


def _has_running(workspace: Workspace) -> bool:
    if not workspace.mlflow_database.exists():
        return False
    found = client(workspace).get_experiment_by_name(live_experiment("chains"))
    runs = live_runs(workspace) if found else []
    return any(run.info.status == "RUNNING" and run.data.metrics for run in runs)


def test_a_store_that_is_gone_holds_up_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    live = LiveFigures(workspace, "chains", ADDRESS, start_after_s=0)
    work(live)
    live.close("FINISHED")
    assert live.writer
    assert live.writer.wait(WAIT_S) == 0
    log = live_file(workspace, ADDRESS).with_suffix(".log").read_text()
    assert f"127.0.0.1:{port}" in log
    assert "Traceback" not in log
    assert not workspace.mlflow_database.exists()


def test_a_short_stage_starts_no_process(workspace: Workspace) -> None:
    with live_figures(workspace, "chains", ADDRESS) as live:
        live.figures(1, {"loss": 0.5})
    assert live.writer is None
    assert live_file(workspace, ADDRESS).read_text().endswith('{"end": "FINISHED"}\n')
    with live_figures(workspace, "chains", "consult@003"):
        pass
    assert not live_file(workspace, "consult@003").exists()


def test_a_folder_that_cannot_be_written_is_no_reason_to_stop(workspace: Workspace) -> None:
    workspace.scratch_dir.mkdir()
    (workspace.scratch_dir / "live").write_text("a file in the folder's place")
    with live_figures(workspace, "chains", ADDRESS) as live:
        live.figures(1, {"loss": 0.5})
    assert live.writer is None


def test_figures_that_come_faster_are_left_out(workspace: Workspace) -> None:
    with live_figures(workspace, "chains", ADDRESS) as live:
        for step in range(1000):
            live.figures(step, {"loss": 0.5})
    size = os.stat(live_file(workspace, ADDRESS)).st_size
    assert size < 1000 * len('{"step": 1}')
