"""`make run` on a real campaign: what it says and leaves, and what the commands after it do.

Most of their time is processes importing torch.
"""

import json
import re
import sqlite3
import stat
import urllib.request
from contextlib import closing
from pathlib import Path

import front_door_scratch as scratch
import yaml

from distil_core.campaign.iterations import extend
from distil_core.workspace import Workspace
from distil_flows.api_server import answering
from distil_flows.finished import finished as notes_of_finished
from distil_flows.stages import stage_versions


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
    tables = {"rollouts", "consultations", "feedback", "train_curve", "evaluation"}
    assert {name for _, name, _ in found} == tables
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
    assert "ALARM: the expert is not better than the student" in output
    (page,) = _artifacts(workspace, "%-iteration-001")
    assert "ALARM: the expert is not better than the student" in page


def _artifacts(workspace: Workspace, key: str) -> list[str]:
    with closing(sqlite3.connect(workspace.root / ".prefect/prefect.db")) as connection:
        found = connection.execute("SELECT data FROM artifact WHERE key LIKE ?", (key,)).fetchall()
    return [data for (data,) in found]


def test_an_iteration_without_a_better_expert_does_not_begin(finished: Workspace) -> None:
    params = yaml.safe_load(finished.params_file.read_text())
    params["gate"]["require_better_expert"] = True
    finished.params_file.write_text(yaml.safe_dump(params))
    extend(finished, stage_versions())
    reason = "sample@002 does not begin, since the expert is not better than the student"
    for arguments in (("distil_flows.cli", "run"), ("dvc", "repro")):
        status, output = scratch.run(finished.root, *arguments)
        assert status != 0
        assert reason in " ".join(output.split())
        assert "gate.require_better_expert: false in iterations/002.yaml" in " ".join(
            output.split()
        )
    assert not finished.rollouts_file(2).exists()


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


def _text(url: str) -> str:
    """What the page says; nothing while nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return str(response.read(), "utf-8")
    except OSError:
        return ""
