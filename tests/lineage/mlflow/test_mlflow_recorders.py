"""Several workspaces record into one MLflow store, at the same time. 40 s, to import MLflow."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow_scratch import make_campaign

from distil_core.lineage.mlflow import record as mlflow_record
from distil_core.lineage.mlflow import write as mlflow_write
from distil_core.lineage.mlflow.owner import (
    ABANDONED_AFTER_S,
    OWNER_TAG,
    may_be_written,
    owner,
)
from distil_core.lineage.mlflow.record import record_all, record_iteration
from distil_core.lineage.mlflow.store import open_store
from distil_core.workspace import Workspace

NAME = "chain-arithmetic"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty database that both record into."""
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path}/shared.db"
    MlflowClient(uri).search_experiments()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


@pytest.fixture
def clones(tmp_path: Path) -> tuple[Workspace, Workspace]:
    """One campaign in two places."""
    first = make_campaign(tmp_path / "a", 1)
    subprocess.run(["cp", "-a", str(first.root), str(tmp_path / "b")], check=True)
    return first, Workspace(tmp_path / "b")


def start_recording(workspace: Workspace) -> "subprocess.Popen[str]":
    program = (
        "from pathlib import Path\n"
        "from distil_core.lineage.mlflow.record import record_all\n"
        "from distil_core.workspace import Workspace\n"
        f"recorded = record_all(Workspace(Path({str(workspace.root)!r})))\n"
        "print([each.run_id for each in recorded])\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def record_elsewhere(workspace: Workspace) -> str:
    process = start_recording(workspace)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def require_one_record(workspace: Workspace) -> list[Any]:
    """Each iteration once, all of it finished, its version there; returns the runs."""
    with open_store(workspace) as client:
        experiment = client.get_experiment_by_name(NAME)
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id])
        assert {run.info.status for run in runs} == {"FINISHED"}
        roles = sorted(
            (run.data.tags["distil.role"], run.data.tags["distil.iteration"]) for run in runs
        )
        assert roles == [("campaign", "0"), ("iteration", "0"), ("iteration", "1")]
        versions = client.search_model_versions(f"name = '{NAME}'")
        assert {v.run_id for v in versions} < {run.info.run_id for run in runs}
        assert len(versions) == 2
        aliases = client.get_registered_model(NAME).aliases
        assert client.get_model_version(NAME, aliases["newest"]).tags["distil.iteration"] == "1"
    return list(runs)


def test_a_run_that_another_recorder_is_writing_is_left_alone(
    store: str, clones: tuple[Workspace, Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is amid an iteration when the other comes along and finishes it first."""
    first, second = clones
    real = mlflow_write._write_pages
    said = []

    def write_pages(*arguments: Any) -> None:
        if not said:
            said.append(record_elsewhere(second))
        real(*arguments)

    monkeypatch.setattr(mlflow_write, "_write_pages", write_pages)
    recorded = record_all(first)
    assert [each.run_id for each in recorded] == json.loads(said[0].replace("'", '"'))
    require_one_record(first)
    assert not any(each.created for each in record_all(second))


def test_at_the_same_time(store: str, clones: tuple[Workspace, Workspace]) -> None:
    processes = [start_recording(workspace) for workspace in clones * 2]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, outputs
    for workspace in clones:
        assert not any(each.created for each in record_all(workspace))
    with open_store(clones[0]) as client:
        experiment = client.get_experiment_by_name(NAME)
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id])
        campaigns = [run for run in runs if run.data.tags["distil.role"] == "campaign"]
        assert len(campaigns) == 1
        assert {run.info.status for run in runs} == {"FINISHED"}


def test_what_a_crash_left_is_deleted_and_what_may_live_is_not(
    store: str, clones: tuple[Workspace, Workspace]
) -> None:
    """By who it says it is of: a process that is gone; one of another machine, now and long ago."""
    first, second = clones
    record_iteration(first, 0)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    mine = json.loads(owner(first))
    owners = {
        "dead": mine | {"pid": dead.pid},
        "reused number": mine | {"pid": 1, "started": "0"},
        "myself, before": mine,
        "other machine, long ago": mine
        | {"place": "elsewhere", "since_s": time.time() - ABANDONED_AFTER_S - 1},
        "an older version": None,
        "other machine": mine | {"place": "elsewhere"},
        "another workspace": json.loads(owner(second)),
    }
    with open_store(first) as client:
        (finished,) = client.search_runs(["1"], "tags.`distil.role` = 'iteration'")
        made = {}
        for name, values in owners.items():
            tags = {k: v for k, v in finished.data.tags.items() if k.startswith("distil.")}
            tags.pop(OWNER_TAG)
            tags |= {"mlflow.parentRunId": finished.data.tags["mlflow.parentRunId"]}
            tags |= {OWNER_TAG: json.dumps(values)} if values else {}
            made[name] = client.create_run("1", tags=tags, run_name=name).info.run_id
        client.delete_run(finished.info.run_id)
    assert record_iteration(first, 0).created
    with open_store(first) as client:
        left = {run.info.run_id for run in client.search_runs(["1"])}
    assert {name for name, run_id in made.items() if run_id in left} == {
        "other machine",
        "another workspace",
    }


def test_the_owner_of_a_run(tmp_path: Path) -> None:
    here, there = Workspace(tmp_path), Workspace(tmp_path / "there")
    assert not may_be_written(owner(here), here)
    assert may_be_written(owner(here), there)
    for damaged in (None, "", "{}", "[1]", "3", '{"place": 1}'):
        assert not may_be_written(damaged, here)


def test_the_recorder_of_a_finished_run_does_not_matter(
    store: str, clones: tuple[Workspace, Workspace]
) -> None:
    record_all(clones[0])
    assert [each.created for each in record_all(clones[1])] == [False, False]
    assert mlflow_record.why_not_recorded(clones[1]) is None
