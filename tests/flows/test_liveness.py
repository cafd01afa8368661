"""A flow run's marker tells other processes whether it lives. 1 s."""

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
from flows.liveness import alive, dead_runs, mark_dead_runs

_HOLD = """
import sys, time
from pathlib import Path
from distil_core.workspace import Workspace
from flows.liveness import alive
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


def test_no_api_is_asked_when_nothing_died(tmp_path: Path) -> None:
    assert mark_dead_runs(Workspace(tmp_path)) == []
