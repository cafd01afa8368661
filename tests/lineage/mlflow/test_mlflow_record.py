"""Recording into a real MLflow database. About 25 s, 6 of them importing MLflow."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow_scratch import START_S, edit_lock, in_child, make_campaign, rerun, write_settings

from distil_core.errors import LineageError
from distil_core.lineage.dvc.lock import lock_digest, locked_outputs
from distil_core.lineage.evidence.snapshots import ensure_snapshots
from distil_core.lineage.mlflow import store as mlflow_store
from distil_core.lineage.mlflow.record import NEWEST, record_all, record_iteration
from distil_core.lineage.snapshot.take import take_snapshot
from distil_core.workspace import Workspace


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A campaign of three iterations, all recorded. Read only."""
    workspace = make_campaign(tmp_path_factory.mktemp("recorded") / "campaign", 3)
    record_all(workspace)
    return workspace


@pytest.fixture(scope="module")
def client(recorded: Workspace) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(f"sqlite:///{recorded.mlflow_database}")


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables with nothing in them: making them takes a second."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Workspace]:
    """A campaign of two iterations, no database yet. No tracking URI may be left behind."""
    yield make_campaign(tmp_path / "campaign", 2)
    assert "MLFLOW_TRACKING_URI" not in os.environ


@pytest.fixture
def campaign(bare: Workspace, empty_database: Path) -> Workspace:
    """The same with an empty database."""
    shutil.copy(empty_database, bare.mlflow_database)
    return bare


def iteration_runs(client: Any) -> dict[int, Any]:
    runs = client.search_runs(["1"], "tags.`distil.role` = 'iteration'")
    return {int(run.data.tags["distil.iteration"]): run for run in runs}


def count_rows(workspace: Workspace) -> dict[str, int]:
    with sqlite3.connect(workspace.mlflow_database) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {
            name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]
            for (name,) in tables.fetchall()
        }


def test_one_run_per_iteration_under_the_campaign(recorded: Workspace, client: Any) -> None:
    (campaign,) = client.search_runs(["1"], "tags.`distil.role` = 'campaign'")
    runs = iteration_runs(client)
    assert sorted(runs) == [0, 1, 2, 3]
    assert campaign.info.status == "FINISHED"
    for iteration, run in runs.items():
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == campaign.info.run_id
        assert run.data.tags["distil.lock_digest"] == lock_digest(recorded, iteration)
        assert run.info.end_time == (START_S + 60 * iteration) * 1000
    assert runs[3].info.end_time - runs[3].info.start_time == 8100
    history = client.get_metric_history(campaign.info.run_id, "pass_at_1")
    assert [(point.step, point.value) for point in history] == [
        (0, 0.262), (1, 0.391), (2, 0.634), (3, 0.762)
    ]  # fmt: skip


def test_parameters_metrics_and_tags(recorded: Workspace, client: Any) -> None:
    run = iteration_runs(client)[3]
    params, metrics, tags = run.data.params, run.data.metrics, run.data.tags
    settings = yaml.safe_load(recorded.frozen_params_file(3).read_text())
    assert params["train.learning_rate"] == "0.0005"
    assert params["problems.num_eval"] == str(settings["problems"]["num_eval"])
    assert json.loads(params["base.phases"]) == settings["base"]["phases"]
    assert params["context.student_template"] == settings["context"]["student_template"]
    expected = json.loads(recorded.metrics_file(3).read_text())
    assert {name: metrics[name] for name in expected if name != "iteration"} == {
        name: value for name, value in expected.items() if name != "iteration"
    }
    assert metrics["seconds/train"] == 3.3
    assert metrics["seconds/total"] == pytest.approx(8.1)
    curve = client.get_metric_history(run.info.run_id, "train/loss")
    assert [point.step for point in curve] == list(range(32))
    assert curve[0].value == 1.2
    head = subprocess.run(
        ["git", "-C", recorded.root, "rev-parse", "HEAD"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert tags["mlflow.source.git.commit"] == head.stdout.strip()
    assert tags["distil.git_dirty"] == "false"
    assert tags["distil.threads"] == "1"
    assert tags["distil.expert_policy"] == "000"
    assert "torch 2." in tags["distil.recorder.libraries"]
    assert tags["distil.recorder.cpu"]


def test_datasets_by_dvc_digest(recorded: Workspace, client: Any) -> None:
    from mlflow.data import get_source
    from mlflow.data.dataset_source_registry import register_dataset_source
    from mlflow.types.schema import Schema

    from distil_core.lineage.mlflow.datasets.source import DvcDatasetSource

    register_dataset_source(DvcDatasetSource)  # type: ignore[arg-type]
    inputs = {i.dataset.name: i for i in client.get_run(run_id(client, 2)).inputs.dataset_inputs}
    assert sorted(inputs) == [
        "consultations-002", "eval-problems", "feedback-002", "rollouts-002", "train-problems"
    ]  # fmt: skip
    feedback = inputs["feedback-002"].dataset
    locked = locked_outputs(recorded, "tabulate@002")["data/iterations/002/feedback"]
    assert feedback.digest == locked.md5
    assert feedback.digest.endswith(".dir")
    profile = json.loads(feedback.profile)
    assert (profile["num_rows"], profile["num_files"]) == (96, 2)
    assert profile["dvc_path"] == "data/iterations/002/feedback"
    schema = Schema.from_json(json.dumps(json.loads(feedback.schema)["mlflow_colspec"]))
    assert schema.input_names() == ["expert_ids", "step"]
    source = get_source(inputs["feedback-002"])
    assert isinstance(source, DvcDatasetSource)
    assert source.stage == "tabulate@002"
    assert source.load(str(recorded.root)) == str(recorded.feedback_dir(2))
    base = client.get_run(run_id(client, 0)).inputs.dataset_inputs
    assert {i.dataset.name for i in base} == {"warm-start-problems", "eval-problems"}


def run_id(client: Any, iteration: int) -> str:
    return str(iteration_runs(client)[iteration].info.run_id)


def test_policies_in_and_out_by_reference(recorded: Workspace, client: Any) -> None:
    outputs = {}
    for iteration in range(4):
        run = client.get_run(run_id(client, iteration))
        (output,) = run.outputs.model_outputs
        outputs[iteration] = output.model_id
        inputs = [i.model_id for i in run.inputs.model_inputs]
        assert inputs == ([outputs[iteration - 1]] if iteration else [])
    model = client.get_logged_model(outputs[3])
    policy = locked_outputs(recorded, "train@003")["data/iterations/003/policy"]
    assert (model.name, str(model.status)) == ("policy-003", "READY")
    assert model.tags["distil.dvc_md5"] == policy.md5
    assert {metric.key: metric.value for metric in model.metrics}["pass_at_1"] == 0.762
    files = [file.path for file in client.list_logged_model_artifacts(outputs[3])]
    assert sorted(files) == ["MLmodel", "README.md"]
    stored_bytes = sum(f.stat().st_size for f in (recorded.root / "mlruns").rglob("*.safetensors"))
    assert stored_bytes == 0


def test_registered_versions_tell_their_lineage(recorded: Workspace, client: Any) -> None:
    versions = {
        int(v.version): v for v in client.search_model_versions("name = 'chain-arithmetic'")
    }
    assert sorted(versions) == [1, 2, 3, 4]
    newest = client.get_model_version_by_alias("chain-arithmetic", NEWEST)
    assert (int(newest.version), newest.tags["distil.iteration"]) == (4, "3")
    assert newest.tags["distil.parent_version"] == "3"
    assert newest.tags["distil.lock_digest"] == lock_digest(recorded, 3)
    assert newest.run_id == run_id(client, 3)
    assert "](#/models/chain-arithmetic/versions/3)" in newest.description
    for address, path in (
        ("tabulate@003", "data/iterations/003/feedback"),
        ("sample@003", "data/iterations/003/rollouts.parquet"),
        ("train@003", "data/iterations/003/policy"),
        ("train@002", "data/iterations/002/policy"),
    ):
        assert (
            f"`{path}`, md5 `{locked_outputs(recorded, address)[path].md5}`" in newest.description
        )
    assert "distil.parent_version" not in versions[1].tags


def test_the_note_leads_back_to_the_problems(recorded: Workspace, client: Any) -> None:
    note = iteration_runs(client)[3].data.tags["mlflow.note.content"]
    rows = [line for line in note.splitlines() if line.startswith("| ")]
    chain = [
        "policy 003", "feedback 003", "consultations 003", "rollouts 003",
        "policy 002", "feedback 002", "consultations 002", "rollouts 002",
        "policy 001", "feedback 001", "consultations 001", "rollouts 001",
        "policy 000", "warm-start problems", "training problems", "evaluation problems",
    ]  # fmt: skip
    assert [name in row for name, row in zip(chain, rows[1:], strict=False)] == [True] * len(chain)
    locked = locked_outputs(recorded, "problems")
    assert locked["data/problems/warm_start.parquet"].md5[:10] in rows[14]
    assert f"runs/{run_id(client, 2)}" in note
    assert "| 0.391 (0.367 to 0.415)" in note
    assert "Settings: as in iteration 2" in note
    assert "`train.learning_rate`" in iteration_runs(client)[2].data.tags["mlflow.note.content"]


def test_recording_again_changes_nothing(recorded: Workspace) -> None:
    before = count_rows(recorded)
    again = record_all(recorded)
    assert [record.created for record in again] == [False] * 4
    assert [record.model_version for record in again] == [1, 2, 3, 4]
    assert not record_iteration(recorded, 2, "http://127.0.0.1:4200/runs").created
    assert count_rows(recorded) == before


def test_a_later_iteration_brings_its_ancestors(
    campaign: Workspace, capfd: pytest.CaptureFixture[str]
) -> None:
    record = record_iteration(campaign, 2, "http://127.0.0.1:4200/runs/flow-run/1")
    assert (record.model_version, record.created) == (3, True)
    assert record.run_page.startswith(f"#/experiments/{record.experiment_id}/runs/{record.run_id}")
    assert [r.created for r in record_all(campaign)] == [False] * 3
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("call", ["log_inputs", "log_figure"])
def test_killed_amid_recording(campaign: Workspace, call: str) -> None:
    from mlflow.tracking import MlflowClient

    def record_and_die() -> None:
        def die(*_: object, **__: object) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(MlflowClient, call, die)
        record_iteration(campaign, 0)

    assert os.WTERMSIG(in_child(record_and_die)) == signal.SIGKILL
    assert [record.created for record in record_all(campaign)] == [True] * 3
    client = MlflowClient(f"sqlite:///{campaign.mlflow_database}")
    statuses = [run.info.status for run in client.search_runs(["1"])]
    assert statuses == ["FINISHED"] * 4
    versions = client.search_model_versions("name = 'chain-arithmetic'")
    assert sorted(v.tags["distil.iteration"] for v in versions) == ["0", "1", "2"]
    assert len(client.search_logged_models(["1"])) == 3


def test_an_error_amid_recording_leaves_a_failed_run(campaign: Workspace) -> None:
    from mlflow.tracking import MlflowClient

    obstacle = campaign.root / "mlruns" / "chain-arithmetic"
    obstacle.parent.mkdir()
    obstacle.write_text("in the way")
    with pytest.raises(OSError, match="mlruns"):
        record_iteration(campaign, 0)
    client = MlflowClient(f"sqlite:///{campaign.mlflow_database}")
    assert "FAILED" in {run.info.status for run in client.search_runs(["1"])}
    obstacle.unlink()
    assert record_iteration(campaign, 0).created


def test_two_processes_at_once(bare: Workspace) -> None:
    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                record_all(bare)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    assert [record.created for record in record_all(bare)] == [False] * 3
    with sqlite3.connect(bare.mlflow_database) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (4,)
        assert connection.execute("SELECT count(*) FROM model_versions").fetchone() == (3,)


def test_another_result_is_another_chain(campaign: Workspace) -> None:
    """With the same settings: as when a stage runs again elsewhere, and nothing is in the cache."""
    from mlflow.tracking import MlflowClient

    first = record_all(campaign)
    for iteration in (1, 2):
        text = campaign.metrics_file(iteration).read_text().replace("0.01", "0.02")
        rerun(campaign, f"evaluate@{iteration:03d}", campaign.metrics_file(iteration), text)
    second = record_all(campaign)
    assert [record.model_version for record in first] == [1, 2, 3]
    # The base is the same one, and registered once; each chain has a row of it.
    assert [record.model_version for record in second] == [1, 4, 5]
    assert second[0].run_id != first[0].run_id
    client = MlflowClient(f"sqlite:///{campaign.mlflow_database}")
    runs = client.search_runs(["1"], "tags.`distil.role` = 'iteration'")
    assert sorted(run.info.run_name for run in runs) == [
        "iteration 000 (base)",
        "iteration 000 (base, campaign 2)",
        "iteration 001",
        "iteration 001 (campaign 2)",
        "iteration 002",
        "iteration 002 (campaign 2)",
    ]
    newest = client.get_model_version_by_alias("chain-arithmetic", NEWEST)
    assert newest.tags["distil.parent_version"] == str(second[1].model_version)
    assert [record.created for record in record_all(campaign)] == [False] * 3
    text = campaign.metrics_file(0).read_text().replace("0.262", "0.272")
    rerun(campaign, "evaluate@000", campaign.metrics_file(0), text)
    assert record_all(campaign)[0].model_version == 6
    campaigns = client.search_runs(["1"], "tags.`distil.role` = 'campaign'")
    assert sorted(run.info.run_name for run in campaigns) == [f"campaign {i}" for i in (1, 2, 3)]


def test_a_snapshot_taken_later_is_told_later(bare: Workspace, empty_database: Path) -> None:
    """As on a fresh clone, where the flow records three iterations and takes the last snapshot."""
    shutil.copy(empty_database, bare.mlflow_database)
    take_snapshot(bare, 2)
    record_iteration(bare, 2)
    assert set(snapshot_tags(bare)) == {2}
    taken = ensure_snapshots(bare)
    assert not any(recorded.created for recorded in record_all(bare))
    assert snapshot_tags(bare) == {
        number: (snapshot.ref, snapshot.commit) for number, snapshot in enumerate(taken)
    }
    with mlflow_store.open_store(bare) as client:
        for number, snapshot in enumerate(taken):
            version = client.get_model_version("chain-arithmetic", str(number + 1))
            assert version.tags["distil.snapshot_commit"] == snapshot.commit
            assert snapshot.commit[:10] in version.description
            note = client.get_run(version.run_id).data.tags["mlflow.note.content"]
            assert f"Snapshot of code, settings and dvc.lock: `{snapshot.ref}`" in note


def snapshot_tags(workspace: Workspace) -> dict[int, tuple[str, str]]:
    with mlflow_store.open_store(workspace) as client:
        runs = client.search_runs(["1"], "tags.`distil.role` = 'iteration'")
    return {
        int(run.data.tags["distil.iteration"]): (
            run.data.tags["distil.snapshot_ref"],
            run.data.tags["distil.snapshot_commit"],
        )
        for run in runs
        if "distil.snapshot_ref" in run.data.tags
    }


@pytest.mark.parametrize("iteration", [0, 2])
def test_an_iteration_with_other_numbers_of_samples(campaign: Workspace, iteration: int) -> None:
    metrics = json.loads(campaign.metrics_file(iteration).read_text())
    fewer = {name: value for name, value in metrics.items() if "pass_at_8" not in name}
    text = json.dumps(fewer | {"num_samples": 4})
    rerun(campaign, f"evaluate@{iteration:03d}", campaign.metrics_file(iteration), text)
    assert [recorded.created for recorded in record_all(campaign)] == [True] * 3


def test_long_setting_is_shortened_and_kept_whole_beside(campaign: Workspace) -> None:
    from mlflow.tracking import MlflowClient

    write_settings(campaign, 0, note="word " * 2000)
    record = record_iteration(campaign, 0)
    client = MlflowClient(f"sqlite:///{campaign.mlflow_database}")
    value = client.get_run(record.run_id).data.params["note"]
    assert len(value) == 6000
    assert "cut; 10000 characters, sha256" in value
    files = Path(client.get_run(record.run_id).info.artifact_uri)
    assert "word " * 2000 in (files / "000.yaml").read_text().replace("\n  ", " ")


def test_tracking_uri_of_the_user(
    bare: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/elsewhere.db")
        assert record_iteration(bare, 0).created
        assert os.environ["MLFLOW_TRACKING_URI"].endswith("elsewhere.db")
    assert not bare.mlflow_database.exists()
    assert (tmp_path / "elsewhere.db").exists()


def test_base_not_finished(bare: Workspace) -> None:
    edit_lock(bare, "evaluate@000")
    assert record_all(bare) == []
    with pytest.raises(LineageError, match=r"no evaluate@000.*dvc repro gate@002"):
        record_iteration(bare, 2)
    assert not bare.mlflow_database.exists()


def test_only_finished_iterations(campaign: Workspace) -> None:
    edit_lock(campaign, "train@002")
    assert len(record_all(campaign)) == 2


def test_locked_database(campaign: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    record_iteration(campaign, 0)
    monkeypatch.setattr(mlflow_store, "DATABASE_WAIT_S", 0.2)
    with sqlite3.connect(campaign.mlflow_database) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(LineageError, match="locked by another writer"):
            record_iteration(campaign, 1)
        connection.rollback()
    assert record_iteration(campaign, 1).created


def test_another_process_records(campaign: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_store, "WRITER_WAIT_S", 0.2)
    with (
        mlflow_store.open_store(campaign),
        pytest.raises(LineageError, match=f"process {os.getpid()} has been recording"),
    ):
        record_iteration(campaign, 0)


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("770bee3ae1dd", "older MLflow.*mlflow db upgrade sqlite:"),
        ("ffffffffffff", "newer MLflow"),
        (None, "something else than MLflow"),
    ],
)
def test_database_of_another_schema(bare: Workspace, version: str | None, message: str) -> None:
    with sqlite3.connect(bare.mlflow_database) as connection:
        if version:
            connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
            connection.execute("INSERT INTO alembic_version VALUES (?)", (version,))
        else:
            connection.execute("CREATE TABLE other (name TEXT)")
    before = bare.mlflow_database.read_bytes()
    with pytest.raises(LineageError, match=message):
        record_iteration(bare, 0)
    assert bare.mlflow_database.read_bytes() == before


def test_no_database_at_all(bare: Workspace) -> None:
    bare.mlflow_database.write_bytes(b"not sqlite" * 1000)
    with pytest.raises(LineageError, match="damaged, or no SQLite database"):
        record_iteration(bare, 0)


def test_database_replaced_while_open(campaign: Workspace) -> None:
    record_iteration(campaign, 0)
    campaign.mlflow_database.unlink()
    with pytest.raises(LineageError, match="restart the process"):
        record_iteration(campaign, 1)


def test_moved_workspace(campaign: Workspace) -> None:
    record_iteration(campaign, 0)
    moved = Workspace(campaign.root.rename(campaign.root.with_name("moved")))
    with pytest.raises(LineageError, match="made in another folder"):
        record_iteration(moved, 1)


def test_deleted_experiment(campaign: Workspace) -> None:
    from mlflow.tracking import MlflowClient

    record_iteration(campaign, 0)
    MlflowClient(f"sqlite:///{campaign.mlflow_database}").delete_experiment("1")
    with pytest.raises(LineageError, match="mlflow experiments restore --experiment-id 1"):
        record_iteration(campaign, 1)


def test_outside_git(bare: Workspace) -> None:
    (bare.root / ".git").rename(bare.root / "git-elsewhere")
    with pytest.raises(LineageError, match="not a git repository"):
        record_iteration(bare, 0)
