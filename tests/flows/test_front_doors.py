"""`make run`, `serve` and `prefect deployment run` on a real campaign and a real Prefect server.

About 60 s on two cores: most of it is six processes importing torch.
"""

import json
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import front_door_scratch as scratch
import pytest
import yaml

from distil_core.campaign.iterations import extend, restart
from distil_core.config.models import IterationParams
from distil_core.errors import (
    ConfigError,
    DataError,
    DistilError,
    EngineError,
    EngineRefusedError,
    ExpertError,
    ExpertUnavailableError,
    SandboxError,
)
from distil_core.lineage.mlflow.record import record_all
from distil_core.progress import ProgressCallback
from distil_core.workspace import Workspace
from distil_flows.api_server import answering
from distil_flows.finished import finished as notes_of_finished
from distil_flows.iteration import next_iteration
from distil_flows.stages import stage_versions
from distil_tasks.stage import StageBody, StageSpec

if TYPE_CHECKING:
    from prefect.states import State


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, str]:
    """A workspace on which `make run` has run, and what it said."""
    workspace = scratch.make_workspace(tmp_path_factory.mktemp("campaign") / "workspace")
    status, output = scratch.run(workspace.root, "distil_flows.cli", "run")
    assert status == 0, output
    return workspace, output


@pytest.fixture
def finished(first_run: tuple[Workspace, str], tmp_path: Path) -> Workspace:
    """A copy of it, to be changed."""
    # MLflow's database knows where it was made; a copy is recorded anew.
    without = shutil.ignore_patterns("mlflow.db*", "mlruns")
    shutil.copytree(first_run[0].root, tmp_path / "copy", symlinks=True, ignore=without)
    return Workspace(tmp_path / "copy")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API address of a `prefect server start`, on a port of its own."""
    port = scratch.free_port()
    url = f"http://127.0.0.1:{port}/api"
    home = tmp_path_factory.mktemp("prefect")
    shutil.copy(scratch.PROJECT / "pyproject.toml", home)
    # Into a file: on a busy machine it complains more than a pipe holds, and then waits for ever.
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)],
            cwd=home,
            env=scratch.environment(PREFECT_API_URL=url),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    try:
        scratch.wait_for("prefect server", lambda: answering(url) == "prefect")
        yield url
    finally:
        scratch.stop(process)


def test_run_ends_with_a_table_and_the_next_commands(first_run: tuple[Workspace, str]) -> None:
    _, output = first_run
    for address in ("problems", "base", "evaluate@000", "sample@001", "evaluate@001"):
        assert re.search(rf"^{address} +ran +[\d.]+ s$", output, re.MULTILINE), output
    row = r"^ +1 +0\.\d{3} +0\.\d{3} +[\d.]+% +[\d.]+% +[+-]0\.\d{3} +promoted"
    assert re.search(row, output, re.MULTILINE), output
    for command in (
        "Champion: policy 001, its weights are in data/iterations/001/policy",
        'AutoModelForCausalLM.from_pretrained("data/iterations/001/policy")',
        "report.html",
        "distil ui",
        "dvc repro",
        "distil extend",
        "prefect deployment run",
    ):
        assert command in output


def test_run_is_quiet_where_there_is_no_terminal(first_run: tuple[Workspace, str]) -> None:
    _, output = first_run
    assert "\x1b" not in output
    assert "\r" not in output
    assert "prefect." not in output
    assert "Traceback" not in output


def test_the_server_of_a_run_ends_with_it(first_run: tuple[Workspace, str]) -> None:
    _, output = first_run
    own = re.search(r"http://127\.0\.0\.1:(?!4200|5000)\d+", output)
    assert own, output
    assert answering(f"{own[0]}/api") == "nothing"


def test_what_a_run_keeps_is_its_owners_alone(first_run: tuple[Workspace, str]) -> None:
    root = first_run[0].root
    for name in (".distil", ".prefect", "mlruns", "mlflow.db", ".prefect/prefect.db"):
        assert stat.S_IMODE((root / name).stat().st_mode) & 0o077 == 0, name


def test_after_a_run_dvc_has_nothing_to_do(first_run: tuple[Workspace, str]) -> None:
    status, output = scratch.run(first_run[0].root, "dvc", "status")
    assert (status, output.strip()) == (0, "Data and pipelines are up to date.")


def test_after_a_run_mlflow_has_it(first_run: tuple[Workspace, str]) -> None:
    status, output = scratch.run(first_run[0].root, "distil_flows.cli", "record")
    assert (status, output.strip()) == (0, "MLflow: 2 finished iterations, 0 of them recorded now")


def test_checks_of_the_tables_are_beside_them_in_mlflow_and_in_prefect(
    first_run: tuple[Workspace, str],
) -> None:
    workspace, output = first_run
    found = {
        (path.parent.name, path.name.partition(".")[0], check): value
        for path in workspace.root.glob("data/iterations/*/*.checks.json")
        for check, value in json.loads(path.read_text())["checks"].items()
    }
    assert {name for _, name, _ in found} == {"rollouts", "consultations", "feedback", "evaluation"}
    with closing(sqlite3.connect(workspace.mlflow_database)) as connection:
        logged = connection.execute(
            "SELECT key, step, value FROM metrics WHERE key LIKE 'checks/%'"
        ).fetchall()
    assert {(f"{step:03d}", *key.split("/")[1:]): value for key, step, value in logged} == found
    with closing(sqlite3.connect(workspace.root / ".prefect/prefect.db")) as connection:
        (shown,) = connection.execute(
            "SELECT data FROM artifact WHERE key LIKE '%-iteration-001-checks'"
        ).fetchone()
    assert {row["check"] for row in json.loads(json.loads(shown))} >= {"mass_error", "expert_gain"}
    # A policy of two steps writes little that has the form of an answer.
    assert "evaluation: malformed_share" in output


def test_a_second_run_starts_nothing_and_says_so(first_run: tuple[Workspace, str]) -> None:
    workspace, _ = first_run
    status, output = scratch.run(workspace.root, "distil_flows.cli", "run")
    assert status == 0, output
    assert "up to date, recorded and reported. Nothing to do." in " ".join(output.split())
    assert "Prefect" not in output, "no server is started"
    assert "unchanged" not in output
    assert 'AutoModelForCausalLM.from_pretrained("data/' in output


def test_whatever_is_missing_or_changed_is_something_to_do(
    first_run: tuple[Workspace, str], tmp_path: Path
) -> None:
    workspace, _ = first_run
    assert notes_of_finished(workspace) is not None
    for path in (
        workspace.report_file,
        workspace.mlflow_database,
        workspace.metrics_file(1),
        workspace.rollouts_file(1),
        workspace.scratch_dir / "finished.json",
    ):
        path.rename(tmp_path / "aside")
        assert notes_of_finished(workspace) is None, path
        (tmp_path / "aside").rename(path)
    for path in (workspace.params_file, workspace.root / "dvc.lock"):
        text = path.read_text()
        path.write_text(text.replace("seed: ", "seed: 1", 1))
        assert notes_of_finished(workspace) is None, path
        path.write_text(text)
    with closing(sqlite3.connect(workspace.mlflow_database)) as database, database:
        changed = database.execute(
            "UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid = (SELECT run_uuid FROM "
            "tags WHERE key = 'distil.iteration' AND value = '1' LIMIT 1) RETURNING run_uuid"
        ).fetchall()
    assert notes_of_finished(workspace) is None, "a run that somebody deleted in MLflow"
    with closing(sqlite3.connect(workspace.mlflow_database)) as database, database:
        database.execute(
            "UPDATE runs SET lifecycle_stage = 'active' WHERE run_uuid = ?", changed[0]
        )
    assert notes_of_finished(workspace) is not None


def test_a_run_leaves_a_report_that_mlflow_has_too(first_run: tuple[Workspace, str]) -> None:
    workspace, _ = first_run
    report = workspace.report_file.read_bytes()
    assert b"Average regret" in report
    assert b"<!DOCTYPE html>" in report
    logged = list((workspace.root / "mlruns").rglob("report.html"))
    assert [path.read_bytes() for path in logged] == [report]
    status, output = scratch.run(workspace.root, "distil_flows.cli", "report")
    assert (status, output.strip()) == (0, f"The campaign's report: {workspace.report_file}")


def test_the_next_iteration_is_the_first_that_is_not_finished(
    finished: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished.root)
    extend(finished, stage_versions(), 5)
    assert next_iteration(finished) == 2
    lock = finished.root / "dvc.lock"
    recorded = lock.read_text()
    for stage, first in (("gate@001", 1), ("evaluate@000", 1), ("problems", 1)):
        contents = yaml.safe_load(recorded)
        del contents["stages"][stage]
        lock.write_text(yaml.safe_dump(contents, sort_keys=False))
        assert next_iteration(finished) == first


def test_the_next_iteration_is_a_new_one_when_all_are_finished(
    finished: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished.root)
    assert next_iteration(finished) == 2
    assert finished.frozen_params_file(2).exists()


def test_deployment_runs_the_next_iteration(finished: Workspace, server: str) -> None:
    _delete_deployments(server)
    serve = scratch.start(finished.root, "distil_flows.cli", "serve", PREFECT_API_URL=server)
    try:
        scratch.wait_for("deployments", lambda: len(_all(server, "deployments")) == 2)
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


def test_a_gate_that_stops_the_campaign_says_the_same_at_both_doors(finished: Workspace) -> None:
    params = yaml.safe_load(finished.params_file.read_text())
    # Training changes lengths by more than this, so that policy 2 raises an alarm.
    params["gate"]["alarms"]["max_length_ratio"] = 1.0 + 1e-9
    params["gate"]["on_regression"] = "stop"
    finished.params_file.write_text(yaml.safe_dump(params))
    extend(finished, stage_versions(), count=2)
    status, output = scratch.run(finished.root, "distil_flows.cli", "run")
    assert status == 1, output
    assert "gate@002" in output
    reason = "the gate of iteration 2 ended the campaign: alarm: responses have"
    assert reason in " ".join(output.split())
    assert "the gate of iteration 2" not in finished.report_file.read_text()
    assert "alarm: responses have" in finished.report_file.read_text()
    status, output = scratch.run(finished.root, "dvc", "repro")
    assert status != 0
    assert f"sample: {reason}" in output
    # What was finished stays, and is recorded with the reason.
    status, output = scratch.run(finished.root, "distil_flows.cli", "record")
    assert output.splitlines()[0] == "MLflow: 3 finished iterations, 0 of them recorded now"
    assert "iteration 3 is not finished: dvc.lock has no sample@003" in output


def test_a_restart_with_one_other_setting(finished: Workspace) -> None:
    """What dvc.lock has of later iterations is of the campaign before until they run again."""
    assert scratch.run(finished.root, "distil_flows.cli", "record")[0] == 0
    params = yaml.safe_load(finished.params_file.read_text())
    params["train"]["learning_rate"] = 0.0005
    finished.params_file.write_text(yaml.safe_dump(params))
    assert scratch.run(finished.root, "distil_flows.cli", "restart")[0] == 0
    status, output = scratch.run(finished.root, "distil_flows.cli", "record")
    assert status == 0, output
    assert output.startswith("MLflow: 1 finished iterations, 1 of them recorded now\n")
    assert "(train.learning_rate: 0.001 → 0.0005)" in output
    status, output = scratch.run(finished.root, "distil_flows.cli", "run")
    assert status == 0, output
    assert re.search(r"^tabulate@001 +unchanged", output, re.MULTILINE), output
    assert re.search(r"^train@001 +ran", output, re.MULTILINE), output
    status, output = scratch.run(finished.root, "distil_flows.cli", "record")
    assert (status, output.strip()) == (0, "MLflow: 2 finished iterations, 0 of them recorded now")
    status, output = scratch.run(finished.root, "dvc", "status")
    assert (status, output.strip()) == (0, "Data and pipelines are up to date.")


def test_ui_shows_the_campaign_and_refuses_a_port_in_use(
    first_run: tuple[Workspace, str],
) -> None:
    root, port = first_run[0].root, scratch.free_port()
    process = scratch.start(root, "distil_flows.cli", "ui", "--port", str(port))
    try:
        scratch.wait_for("mlflow", lambda: _text(f"http://127.0.0.1:{port}/health") == "OK")
        status, output = scratch.run(root, "distil_flows.cli", "ui", "--port", str(port))
    finally:
        scratch.stop(process)
    assert status == 1
    assert f"port {port} is in use" in output
    assert f"distil ui --port {port + 1}" in output


@pytest.fixture
def here(finished: Workspace, server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """The copy, for flows called in this process."""
    from prefect.context import refresh_global_settings_context

    monkeypatch.chdir(finished.root)
    monkeypatch.setenv("PREFECT_API_URL", server)
    refresh_global_settings_context()
    yield finished
    monkeypatch.undo()
    refresh_global_settings_context()


def test_flow_reports_every_stage_unchanged(here: Workspace) -> None:
    from distil_flows.iteration import distil_iteration

    summary = distil_iteration(1)
    assert [outcome.status for outcome in summary.stages] == ["unchanged"] * 6
    assert summary.metrics["iteration"] == 1
    assert not list((here.scratch_dir / "flow-runs").iterdir())


def test_flow_after_a_restart_and_with_a_run_that_was_interrupted(
    here: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distil_flows.iteration import distil_iteration

    record_all(here)
    params = yaml.safe_load(here.params_file.read_text())
    former = here.params_file.read_text()
    params["tabulate"]["rows_per_shard"] = 7
    here.params_file.write_text(yaml.safe_dump(params))
    restart(here, stage_versions())

    def body(workspace: Workspace, params: IterationParams, progress: ProgressCallback) -> None:
        raise DataError("interrupted")

    with monkeypatch.context() as patch:
        assert _run_next_with(body, patch).is_failed()
    assert not here.feedback_dir(1).exists()
    # Back to what dvc.lock still has; the feedback comes out of DVC's run cache.
    here.params_file.write_text(former)
    restart(here, stage_versions())
    assert not any(recorded.created for recorded in record_all(here))
    statuses = {stage.address: stage.status for stage in distil_iteration(1).stages}
    assert statuses.pop("tabulate@001") == "restored"
    assert set(statuses.values()) == {"unchanged"}
    here.params_file.write_text(yaml.safe_dump(params))
    restart(here, stage_versions())
    statuses = {stage.address: stage.status for stage in distil_iteration(1).stages}
    assert (statuses["consult@001"], statuses["tabulate@001"]) == ("unchanged", "ran")
    assert not any(recorded.created for recorded in record_all(here))


def test_flow_refuses_an_iteration_that_does_not_exist(here: Workspace) -> None:
    from distil_flows.iteration import distil_iteration

    state = distil_iteration(9, return_state=True)
    assert state.is_failed()
    assert state.message
    assert state.message.startswith("iteration 9 does not exist: the campaign has 0 to 1.")


def test_a_failed_stage_fails_the_run_with_its_message(
    here: Workspace, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def body(workspace: Workspace, params: IterationParams, progress: ProgressCallback) -> None:
        raise DataError("the prompts are gone: bring them back")

    state = _run_next_with(body, monkeypatch)
    assert state.is_failed()
    assert state.message == "the prompts are gone: bring them back"
    runs = [run for run in _all(server, "task_runs") if run["name"] == "sample@002"]
    assert runs[0]["state_type"] == "FAILED"
    assert runs[0]["run_count"] == 1


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (EngineError("vLLM is gone"), 3),
        (SandboxError("the zygote is gone"), 3),
        (ExpertUnavailableError("no answer in 6 attempts"), 3),
        (EngineRefusedError("top_k 99 exceeds max_logprobs 64"), 1),
        (ExpertError("refused: HTTP 401"), 1),
        (ConfigError("no such setting"), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_what_a_stage_works_with_is_tried_again_its_settings_are_not(
    here: Workspace, server: str, monkeypatch: pytest.MonkeyPatch, error: DistilError, attempts: int
) -> None:
    import distil_flows.iteration

    called = []

    def body(workspace: Workspace, params: IterationParams, progress: ProgressCallback) -> None:
        called.append(1)
        raise error

    task = distil_flows.iteration._stage_task.with_options(retry_delay_seconds=0)
    monkeypatch.setattr(distil_flows.iteration, "_stage_task", task)
    state = _run_next_with(body, monkeypatch)
    assert state.is_failed()
    assert state.message == str(error)
    assert len(called) == attempts
    runs = _all(server, "task_runs")
    newest = max(
        (run for run in runs if run["name"] == "sample@002"), key=lambda run: run["created"]
    )
    assert newest["run_count"] == attempts


def test_a_stage_that_works_at_the_second_attempt_is_recorded(
    here: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    import distil_flows.iteration
    from distil_tasks.sample import STAGE

    called = []

    def body(workspace: Workspace, params: IterationParams, progress: ProgressCallback) -> None:
        called.append(1)
        if len(called) == 1:
            raise EngineError("vLLM is gone")
        if len(called) == 3:
            raise ConfigError("the next stage: far enough")
        STAGE.body(workspace, params, progress)

    task = distil_flows.iteration._stage_task.with_options(retry_delay_seconds=0)
    monkeypatch.setattr(distil_flows.iteration, "_stage_task", task)
    state = _run_next_with(body, monkeypatch)
    assert state.message == "the next stage: far enough"
    assert len(called) == 3
    assert here.rollouts_file(2).exists()


def test_runs_carry_their_workspace_and_campaign(here: Workspace, server: str) -> None:
    from distil_flows.iteration import distil_iteration
    from distil_flows.ownership import workspace_tag

    distil_iteration(1)
    tags = {workspace_tag(here), "campaign:chain-arithmetic"}
    runs = [run for run in _all(server, "flow_runs") if workspace_tag(here) in run["tags"]]
    assert [set(run["tags"]) for run in runs] == [tags]
    parts = [run for run in _all(server, "task_runs") if run["flow_run_id"] == runs[0]["id"]]
    assert len(parts) == 8
    assert all(set(part["tags"]) >= tags for part in parts)


def test_a_run_of_another_workspace_or_campaign_is_refused(here: Workspace) -> None:
    from prefect import tags

    from distil_flows.campaign import distil_campaign
    from distil_flows.iteration import distil_iteration

    for tag in ("workspace:other-01234567-89ab", "campaign:tool-calls"):
        for flow in (distil_iteration, distil_campaign):
            with tags(tag):
                state = flow(return_state=True)
            assert state.is_failed()
            assert state.message
            assert f"was asked for by {tag}" in state.message
            assert str(here.root) in state.message
    # A template whose variable was not set when it was deployed names nobody.
    with tags("campaign:{{ $DISTIL_CAMPAIGN }}"):
        assert distil_iteration(1, return_state=True).is_completed()


def test_a_second_workspace_on_the_server_has_deployments_of_its_own(
    finished: Workspace, server: str, tmp_path: Path
) -> None:
    """Both are served, and a run asked for by the one's name is never the other's."""
    second = Workspace(tmp_path / "second")
    shutil.copytree(finished.root, second.root, symlinks=True)
    _delete_deployments(server)
    serving = [scratch.start(finished.root, "distil_flows.cli", "serve", PREFECT_API_URL=server)]
    try:
        scratch.wait_for("the first's", lambda: len(_all(server, "deployments")) == 2)
        serving.append(
            scratch.start(second.root, "distil_flows.cli", "serve", PREFECT_API_URL=server)
        )
        scratch.wait_for("the second's", lambda: len(_all(server, "deployments")) == 4)
        names = {deployment["name"] for deployment in _all(server, "deployments")}
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
    deployments = {deployment["id"] for deployment in _all(server, "deployments")}
    tags = {
        run["deployment_id"]: set(run["tags"])
        for run in _all(server, "flow_runs")
        if run["deployment_id"] in deployments
    }
    assert set(map(len, tags.values())) == {2}
    assert len({frozenset(found) for found in tags.values()}) == 2
    assert "prefect deployment run distil-iteration/local-copy --watch" in said[0]
    assert "is not this workspace's own" in said[0]
    assert "prefect deployment run distil-iteration/local-second --watch" in said[1]
    status, output = scratch.run(second.root, "distil_flows.cli", "extend")
    assert "prefect deployment run distil-iteration/local-second --watch" in output


def test_a_stage_that_takes_too_long_is_stopped(
    here: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def body(workspace: Workspace, params: IterationParams, progress: ProgressCallback) -> None:
        for _ in range(300):
            time.sleep(0.1)

    state = _run_next_with(body, monkeypatch, stage_timeout_s=1)
    assert state.is_failed()
    assert state.message
    assert "sample@002 was stopped after 1 s" in state.message
    assert not here.rollouts_file(2).exists()


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


def test_run_stops_where_the_address_in_the_shell_does_not_answer(finished: Workspace) -> None:
    url = f"http://127.0.0.1:{scratch.free_port()}/api"
    for command in ("run", "serve"):
        status, output = scratch.run(
            finished.root, "distil_flows.cli", command, PREFECT_API_URL=url
        )
        assert status == 1
        assert f"no Prefect server answers at {url}" in " ".join(output.split())
        assert "prefect server start" in output
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


def _run_next_with(
    body: StageBody, monkeypatch: pytest.MonkeyPatch, **parameters: float
) -> "State[Any]":
    """Run the next iteration with another body of its first stage."""
    import distil_flows.iteration

    monkeypatch.setattr(distil_flows.iteration, "stage_spec", lambda name: StageSpec(name, 1, body))
    return distil_flows.iteration.distil_iteration(return_state=True, **parameters)


def _states(server: str, flow_run_ids: set[str]) -> dict[str, str]:
    """State of the flow runs and of their task runs, by name."""
    flow_runs = _all(server, "flow_runs")
    task_runs = _all(server, "task_runs")
    return {
        run["name"]: run["state_type"]
        for run in flow_runs + task_runs
        if {run["id"], run.get("flow_run_id")} & flow_run_ids
    }


def _delete_deployments(server: str) -> None:
    for deployment in _all(server, "deployments"):
        request = urllib.request.Request(
            f"{server}/deployments/{deployment['id']}", method="DELETE"
        )
        urllib.request.urlopen(request, timeout=10).close()


def _text(url: str) -> str:
    """What the page says; nothing while nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return str(response.read(), "utf-8")
    except OSError:
        return ""


def _all(server: str, kind: str) -> list[dict[str, Any]]:
    request = urllib.request.Request(
        f"{server}/{kind}/filter", b"{}", {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        found: list[dict[str, Any]] = json.load(response)
    return found
