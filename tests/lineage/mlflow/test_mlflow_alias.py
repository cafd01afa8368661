"""The aliases `champion` and `newest`, in whatever order iterations are recorded. About 40 s."""

import json
import os
import shutil
import signal
from pathlib import Path
from random import Random
from typing import Any

import pytest
from mlflow_scratch import in_child, make_campaign, reject, rerun, write_listing

from distil_core.errors import LineageError
from distil_core.lineage.mlflow.record import record_all, record_iteration
from distil_core.lineage.mlflow.store import open_store
from distil_core.workspace import Workspace

NAME = "chain-arithmetic"
CHAMPIONS = (0, 1, 1, 3, 3)
"""After each iteration's gate: policies 2 and 4 are not promoted."""


@pytest.fixture
def campaign(tmp_path: Path) -> Workspace:
    """Not recorded yet."""
    workspace = make_campaign(tmp_path / "campaign", 4)
    decide(workspace)
    return workspace


def decide(workspace: Workspace) -> None:
    for iteration, parent in ((2, 1), (4, 3)):
        kept = {"champion": parent, "handed_over": parent, "compared_with": parent}
        reject(workspace, iteration, parent=parent, **kept)
    path = workspace.decision_file(3)
    rerun(workspace, "gate@003", path, json.dumps(json.loads(path.read_text()) | {"parent": 1}))


def aliases(workspace: Workspace) -> dict[str, int]:
    """The iteration of each; its version must be that of a finished run that is there."""
    with open_store(workspace) as client:
        found = client.get_registered_model(NAME).aliases
        iterations = {}
        for alias, number in found.items():
            version = client.get_model_version(NAME, number)
            run = client.get_run(version.run_id)
            assert (run.info.status, run.info.lifecycle_stage) == ("FINISHED", "active")
            assert run.data.tags["distil.model_version"] == str(number)
            iterations[alias] = int(version.tags["distil.iteration"])
    return iterations


def delete_run(workspace: Workspace, iteration: int) -> None:
    with open_store(workspace) as client:
        for run in runs(client, iteration):
            client.delete_run(run.info.run_id)


def runs(client: Any, iteration: int) -> list[Any]:
    wanted = f"tags.`distil.iteration` = '{iteration}' AND tags.`distil.role` = 'iteration'"
    return list(client.search_runs(["1"], wanted))


def campaign_note(workspace: Workspace) -> str:
    with open_store(workspace) as client:
        (run,) = client.search_runs(["1"], "tags.`distil.role` = 'campaign'")
    return str(run.data.tags["mlflow.note.content"])


def test_one_by_one_after_the_fact(campaign: Workspace) -> None:
    for iteration, champion in enumerate(CHAMPIONS):
        record_iteration(campaign, iteration)
        assert aliases(campaign) == {"newest": iteration, "champion": champion}


@pytest.mark.parametrize("record", [record_all, lambda workspace: record_iteration(workspace, 2)])
def test_an_older_iteration_recorded_again(campaign: Workspace, record: Any) -> None:
    record_all(campaign)
    for iteration in (1, 2):
        delete_run(campaign, iteration)
    record(campaign)
    assert aliases(campaign) == {"newest": 4, "champion": 3}
    with open_store(campaign) as client:
        (again,) = runs(client, 1)
    note = campaign_note(campaign)
    assert again.info.run_id in note
    assert "iteration 4" in note


def test_the_champion_recorded_again(campaign: Workspace) -> None:
    """A later iteration brings back the parent that it names, with its version and alias."""
    record_iteration(campaign, 3)
    delete_run(campaign, 3)
    delete_run(campaign, 1)
    record_iteration(campaign, 4)
    assert aliases(campaign) == {"newest": 4, "champion": 3}
    with open_store(campaign) as client:
        (parent,) = runs(client, 3)
        (last,) = runs(client, 4)
    assert last.data.tags["distil.parent_run_id"] == parent.info.run_id
    assert int(parent.data.tags["distil.model_version"]) > 4


def test_any_order(campaign: Workspace) -> None:
    random = Random(5)
    recorded: set[int] = set()
    for _ in range(12):
        iteration = random.randrange(5)
        if iteration in recorded and random.random() < 0.5:
            delete_run(campaign, iteration)
            recorded.remove(iteration)
        else:
            record_iteration(campaign, iteration)
            newest = max({iteration, *recorded})
            recorded = set(range(newest + 1))
            assert aliases(campaign) == {"newest": newest, "champion": CHAMPIONS[newest]}


def test_a_restart_and_the_way_back(campaign: Workspace, tmp_path: Path) -> None:
    record_all(campaign)
    first = shutil.copytree(campaign.root, tmp_path / "first", symlinks=True)
    text = campaign.metrics_file(0).read_text().replace("0.262", "0.272")
    rerun(campaign, "evaluate@000", campaign.metrics_file(0), text)
    record_iteration(campaign, 1)
    assert aliases(campaign) == {"newest": 1, "champion": 1}
    with open_store(campaign) as client:
        assert int(client.get_model_version_by_alias(NAME, "newest").version) == 7
    record_all(campaign)
    assert aliases(campaign) == {"newest": 4, "champion": 3}
    # The former dvc.lock and files, as by git and DVC: all recorded, none of it last.
    shutil.copy(first / "dvc.lock", campaign.root / "dvc.lock")
    metrics = campaign.metrics_file(0)
    shutil.copy(first / campaign.relative(metrics), metrics)
    assert not any(recorded.created for recorded in record_all(campaign))
    assert aliases(campaign) == {"newest": 4, "champion": 3}
    with open_store(campaign) as client:
        assert int(client.get_model_version_by_alias(NAME, "champion").version) == 4


def test_a_restart_with_fewer_iterations(campaign: Workspace) -> None:
    """DVC keeps the entries of iterations that are no more. The shorter chain is one of its own."""
    record_all(campaign)
    for iteration in (2, 3, 4):
        campaign.frozen_params_file(iteration).unlink()
    write_listing(campaign, 1)
    text = campaign.metrics_file(1).read_text().replace("0.391", "0.401")
    rerun(campaign, "evaluate@001", campaign.metrics_file(1), text)
    assert [recorded.model_version for recorded in record_all(campaign)] == [1, 6]
    assert aliases(campaign) == {"newest": 1, "champion": 1}


def test_killed_before_the_aliases(campaign: Workspace) -> None:
    from mlflow.tracking import MlflowClient

    record_iteration(campaign, 2)

    def record_and_die() -> None:
        def die(*_: object, **__: object) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(MlflowClient, "set_registered_model_alias", die)  # noqa: B010
        record_iteration(campaign, 3)

    assert os.WTERMSIG(in_child(record_and_die)) == signal.SIGKILL
    assert not record_iteration(campaign, 3).created
    assert aliases(campaign) == {"newest": 3, "champion": 3}


def test_recording_again_leaves_them_alone(
    campaign: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    record_all(campaign)
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(
        MlflowClient, "set_registered_model_alias", lambda *arguments: calls.append(arguments)
    )
    record_all(campaign)
    record_iteration(campaign, 1)
    assert calls == []


def test_a_champion_deleted_by_hand(campaign: Workspace) -> None:
    record_iteration(campaign, 3)
    with open_store(campaign) as client:
        client.delete_model_version(NAME, "4")
    with pytest.raises(LineageError, match=r"version 4 of model .* delete that run as well"):
        record_iteration(campaign, 4)
    delete_run(campaign, 3)
    record_iteration(campaign, 4)
    assert aliases(campaign) == {"newest": 4, "champion": 3}
