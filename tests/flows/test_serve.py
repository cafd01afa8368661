"""`serve` and `prefect deployment run` on a real Prefect server, and runs that are ended early.

Most of their time is processes importing torch.
"""

import re
import shutil
import signal
import subprocess
from pathlib import Path

import front_door_scratch as scratch

from distil_core.campaign.iterations import extend
from distil_core.workspace import Workspace
from distil_flows.stages import stage_versions


def test_deployment_runs_the_next_iteration(finished: Workspace, server: str) -> None:
    scratch.delete_deployments(server)
    serve = scratch.start(finished.root, "distil_flows.cli", "serve", PREFECT_API_URL=server)
    try:
        scratch.wait_for("deployments", lambda: _num_deployments(server) == 2)
        status, output = scratch.run(
            finished.root,
            *("prefect", "deployment", "run", "distil-iteration/local-copy", "--watch"),
            PREFECT_API_URL=server,
        )
    finally:
        scratch.stop(serve)
    assert status == 0, output
    assert "train@002 ran in" in output
    assert re.search(r"chain-arithmetic-copy-[0-9a-f]+-[0-9a-f]+-iteration-002", output), output
    assert (finished.policy_dir(2) / "model.safetensors").exists()


def test_a_second_workspace_on_the_server_has_deployments_of_its_own(
    finished: Workspace, server: str, tmp_path: Path
) -> None:
    """Both are served, and a run asked for by the one's name is never the other's."""
    second = Workspace(tmp_path / "second")
    shutil.copytree(finished.root, second.root, symlinks=True)
    scratch.delete_deployments(server)
    serving = [scratch.start(finished.root, "distil_flows.cli", "serve", PREFECT_API_URL=server)]
    try:
        scratch.wait_for("the first's", lambda: _num_deployments(server) == 2)
        serving.append(
            scratch.start(second.root, "distil_flows.cli", "serve", PREFECT_API_URL=server)
        )
        scratch.wait_for("the second's", lambda: _num_deployments(server) == 4)
        names = {deployment["name"] for deployment in scratch.everything(server, "deployments")}
        assert names == {"local-copy", "local-second"}
        for address in ("distil-iteration/local-second", "distil-iteration/local-copy"):
            status, output = scratch.run(
                second.root,
                *("prefect", "deployment", "run", address, "-p", "iteration=1", "--watch"),
                PREFECT_API_URL=server,
            )
            assert status == 0, output
    finally:
        said = [scratch.stop(process) for process in serving]
    # The server has runs of other tests as well, by deployments that are gone.
    deployments = {deployment["id"] for deployment in scratch.everything(server, "deployments")}
    tags = {
        run["deployment_id"]: set(run["tags"])
        for run in scratch.everything(server, "flow_runs")
        if run["deployment_id"] in deployments
    }
    assert set(map(len, tags.values())) == {2}
    assert len({frozenset(found) for found in tags.values()}) == 2
    assert "prefect deployment run distil-iteration/local-copy --watch" in said[0]
    assert "is not this workspace's own" in said[0]
    assert "prefect deployment run distil-iteration/local-second --watch" in said[1]
    status, output = scratch.run(second.root, "distil_flows.cli", "extend")
    assert "prefect deployment run distil-iteration/local-second --watch" in output


def test_a_killed_run_is_marked_crashed(finished: Workspace, server: str) -> None:
    process = _start_slow_run(finished, PREFECT_API_URL=server)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    killed = {path.name for path in (finished.scratch_dir / "flow-runs").iterdir()}
    assert len(killed) == 2
    before = _states(server, killed)
    running = {name for name, state in before.items() if state == "RUNNING"}
    assert running == {"campaign", "distil-iteration-2", "iteration 2", "sample@002"}

    serve = scratch.start(finished.root, "distil_flows.cli", "serve", PREFECT_API_URL=server)
    try:
        scratch.wait_for(
            "crashed",
            lambda: _states(server, killed) == before | dict.fromkeys(running, "CRASHED"),
        )
    finally:
        output = scratch.stop(serve)
    assert output.count("had died") == 2


def test_an_interrupted_run_ends_soon_and_says_what_is_kept(finished: Workspace) -> None:
    process = _start_slow_run(finished)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Interrupted. What was finished is kept" in output
    assert "Traceback" not in output


def _start_slow_run(workspace: Workspace, **variables: str) -> "subprocess.Popen[str]":
    """`make run` that has come to a stage which never ends."""
    (workspace.root / "tasks" / "sample.py").write_text(
        "import time\n"
        "from distil_tasks.stage import StageSpec\n"
        "def body(workspace, params, progress):\n"
        "    print('sampling', flush=True)\n"
        "    time.sleep(600)\n"
        "STAGE = StageSpec('sample', version=1, body=body)\n"
    )
    extend(workspace, stage_versions())
    process = scratch.start(workspace.root, "distil_flows.cli", "run", **variables)
    assert process.stdout
    for line in process.stdout:
        if line.startswith("sampling"):
            break
    return process


def _states(server: str, flow_run_ids: set[str]) -> dict[str, str]:
    """State of the flow runs and of their task runs, by name."""
    flow_runs = scratch.everything(server, "flow_runs")
    task_runs = scratch.everything(server, "task_runs")
    return {
        run["name"]: run["state_type"]
        for run in flow_runs + task_runs
        if {run["id"], run.get("flow_run_id")} & flow_run_ids
    }


def _num_deployments(server: str) -> int:
    return len(scratch.everything(server, "deployments"))
