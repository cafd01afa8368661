"""A flow run's marker tells other processes whether it lives. 15 s, for a Prefect server."""

import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import front_door_scratch as scratch
import httpx
import pytest

from distil_core.workspace import Workspace
from distil_flows.api_server import prefect_api
from distil_flows.liveness import alive, dead_runs, mark_dead_runs

_HOLD = """
import sys, time
from pathlib import Path
from distil_core.workspace import Workspace
from distil_flows.api_server import prefect_api
from distil_flows.liveness import alive
with alive(Workspace(Path.cwd()), sys.argv[1]):
    print("alive", flush=True)
    time.sleep(600)
"""


def test_a_run_is_dead_only_once_its_process_is(tmp_path: Path) -> None:
    flow_run_id = str(uuid4())
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, flow_run_id],
        cwd=tmp_path,
        env=scratch.environment(PYTHONPATH=str(scratch.PROJECT)),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "alive\n"
    assert dead_runs(Workspace(tmp_path)) == []
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert [marker.name for marker in dead_runs(Workspace(tmp_path))] == [flow_run_id]


def test_an_ended_run_leaves_nothing(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with suppress(RuntimeError), alive(workspace, str(uuid4())):
        assert dead_runs(workspace) == []
        raise RuntimeError
    assert list((workspace.scratch_dir / "flow-runs").iterdir()) == []


def test_a_run_that_lost_its_server_is_told_of_later(tmp_path: Path) -> None:
    workspace, flow_run_id = Workspace(tmp_path), str(uuid4())
    with pytest.raises(httpx.ConnectError), alive(workspace, flow_run_id):
        httpx.get("http://127.0.0.1:9")
    assert [marker.name for marker in dead_runs(workspace)] == [flow_run_id]


def test_all_that_a_dead_run_left_is_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than the 200 that the API gives at a time, and an iteration that had not begun."""
    from prefect import flow, task
    from prefect.client.orchestration import get_client
    from prefect.states import Completed, Pending, Running

    @flow
    def campaign() -> None: ...

    @task
    def step() -> None: ...

    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / ".prefect"))
    monkeypatch.setenv("PREFECT_LOGGING_LEVEL", "ERROR")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    workspace = Workspace(tmp_path)
    with prefect_api(workspace) as api, get_client(sync_client=True) as client:
        api.wait_until_ready()
        dead = client.create_flow_run(campaign, state=Running())
        for number in range(205):
            client.create_task_run(step, dead.id, str(number), state=Completed())
        parts = [client.create_task_run(step, dead.id, f"s{n}", state=Running()) for n in range(2)]
        done, waiting = (
            client.create_flow_run(campaign, parent_task_run_id=part.id, state=state)
            for part, state in zip(parts, (Completed(), Pending()), strict=True)
        )
        lost = client.create_task_run(step, dead.id, "lost", state=Running())
        beside = client.create_flow_run(campaign, state=Pending())
        marker = workspace.scratch_dir / "flow-runs" / str(dead.id)
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
        assert mark_dead_runs(workspace) == [dead.id]
        flows = [client.read_flow_run(run.id).state_name for run in (dead, done, waiting, beside)]
        tasks = [client.read_task_run(run.id).state_name for run in (*parts, lost)]
    assert flows == ["Crashed", "Completed", "Crashed", "Pending"]
    assert tasks == ["Completed", "Crashed", "Crashed"]
    assert dead_runs(workspace) == []


def test_no_api_is_asked_when_nothing_died(tmp_path: Path) -> None:
    assert mark_dead_runs(Workspace(tmp_path)) == []
