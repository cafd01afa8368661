"""What is read for a record, and what is refused. A second; nothing imports MLflow."""

import os
import time
from pathlib import Path

import pytest
import yaml
from mlflow_scratch import START_S, edit_lock, make_campaign, rerun, write_settings

from distil_core.errors import LineageError
from distil_core.lineage.dvc.lock import locked_outputs, read_entries
from distil_core.lineage.evidence.inputs import read_stage_seconds, read_train_curve
from distil_core.lineage.evidence.iteration import History
from distil_core.lineage.frozen import flatten
from distil_core.lineage.git import git
from distil_core.lineage.snapshot.take import take_snapshot
from distil_core.workspace import Workspace


@pytest.fixture
def campaign(tmp_path: Path) -> Workspace:
    """Two finished iterations."""
    return make_campaign(tmp_path / "campaign", 2)


def test_evidence_of_an_iteration(campaign: Workspace) -> None:
    history = History(campaign)
    assert history.last_finished() == 2
    this = history[2]
    assert (this.campaign, this.iteration, this.expert) == ("chain-arithmetic", 2, 0)
    assert this.policy.stage == "train@002"
    assert this.policy.md5 == locked_outputs(campaign, "train@002")[this.policy.path].md5
    assert this.metrics["pass_at_1"] == 0.634
    assert "iteration" not in this.metrics
    assert history[0].expert is None
    assert "rollouts" not in history[0].artifacts


def test_flatten() -> None:
    nested = {"a": {"b": 0.5, "c": None}, "list": [1, {"x": 2}], "odd": {"a b": 1}, "none": {}}
    assert flatten(nested) == {
        "a.b": "0.5",
        "a.c": "null",
        "list": '[1, {"x": 2}]',
        "odd": '{"a b": 1}',
        "none": "{}",
    }


def test_unfinished(campaign: Workspace) -> None:
    edit_lock(campaign, "tabulate@001")
    history = History(campaign)
    assert history.last_finished() == 0
    history.require_finished(0)
    with pytest.raises(LineageError, match=r"iteration 1 is not finished.*tabulate@001"):
        history.require_finished(2)


def test_settings_edited_after_the_run(campaign: Workspace) -> None:
    write_settings(campaign, 2, seed=5)
    expected = r"sample@002 ran with other settings than iterations/002.yaml .*\(seed: 20\d+ → 5\)"
    with pytest.raises(LineageError, match=expected):
        History(campaign)[2]
    assert History(campaign).last_finished() == 1
    assert "sample@002" in str(History(campaign).why_no_more())


def test_a_message_names_the_settings_that_differ_and_no_others(campaign: Workspace) -> None:
    train = yaml.safe_load(campaign.frozen_params_file(1).read_text())["train"]
    train["objective"]["options"]["weight"] = 0.25
    write_settings(campaign, 1, train=train)
    with pytest.raises(LineageError) as refused:
        History(campaign).require_finished(2)
    assert "(train.objective.options.weight: 1.0 → 0.25)" in str(refused.value)
    assert "learning_rate" not in str(refused.value)


@pytest.mark.parametrize("text", ["[1", "- just a list", "seed: 3"])
def test_settings_that_cannot_be_read(campaign: Workspace, text: str) -> None:
    campaign.frozen_params_file(1).write_text(text)
    with pytest.raises(LineageError, match=r"git checkout iterations/001\.yaml"):
        History(campaign)[1]


def test_stage_that_read_another_version(campaign: Workspace) -> None:
    rerun(campaign, "sample@001", campaign.rollouts_file(1), "newer rollouts")
    with pytest.raises(LineageError, match=r"consult@001 read another .*dvc repro consult@001"):
        History(campaign)[1]


def test_metrics_that_dvc_did_not_record(campaign: Workspace) -> None:
    campaign.metrics_file(1).write_text("{}")
    with pytest.raises(LineageError, match=r"not what evaluate@001 wrote.*dvc checkout"):
        History(campaign)[1]
    campaign.metrics_file(1).unlink()
    with pytest.raises(LineageError, match="found nothing"):
        History(campaign)[1]


@pytest.mark.parametrize("text", ["[]", '{"pass_at_1": "high"}', "{"])
def test_metrics_of_another_shape(campaign: Workspace, text: str) -> None:
    rerun(campaign, "evaluate@001", campaign.metrics_file(1), text)
    with pytest.raises(LineageError, match="one flat JSON object of numbers"):
        History(campaign)[1]


def test_output_that_dvc_does_not_know(campaign: Workspace) -> None:
    entry = read_entries(campaign)["train@002"]
    edit_lock(campaign, "train@002", outs=entry["outs"][:1])
    with pytest.raises(LineageError, match=r"names no data/iterations/002/train_curve\.csv"):
        History(campaign)[2]


def test_train_curve(campaign: Workspace) -> None:
    path = campaign.train_curve_file(1)
    rerun(campaign, "train@001", path, "step,loss,extra\n0,1.5,\n1,1.25,7\n")
    curve = History(campaign)[1].artifacts["train_curve"]
    assert list(read_train_curve(campaign, curve)) == [
        (0, {"loss": 1.5}),
        (1, {"loss": 1.25, "extra": 7.0}),
    ]
    rerun(campaign, "train@001", path, "step,loss\n0,1.5\n1,oops\n")
    curve = History(campaign)[1].artifacts["train_curve"]
    with pytest.raises(LineageError, match=r"train_curve.csv, line 3: expected numbers"):
        list(read_train_curve(campaign, curve))


def test_timings(campaign: Workspace) -> None:
    assert read_stage_seconds(campaign, 1)["train"] == 3.3
    campaign.timings_file(1).write_text("[1]")
    with pytest.raises(LineageError, match="seconds by stage; delete the file"):
        read_stage_seconds(campaign, 1)
    campaign.timings_file(1).unlink()
    assert read_stage_seconds(campaign, 1) == {}


def test_when_an_iteration_finished_is_no_files_time(campaign: Workspace) -> None:
    """A checkout or clone writes the files anew. What ran elsewhere has its snapshot's time."""
    noted = History(campaign)[1].finished_at_ms
    os.utime(campaign.metrics_file(1), (1_000_000_000, 1_000_000_000))
    assert History(campaign)[1].finished_at_ms == noted == (START_S + 60) * 1000
    campaign.finish_times_file(1).unlink()
    before = time.time()
    assert before <= History(campaign)[1].finished_at_ms / 1000 + 0.001 <= time.time() + 0.001
    snapshot = take_snapshot(campaign, 1)
    at_s = int(git(campaign.root, "show", "--no-patch", "--format=%ct", snapshot.commit))
    assert History(campaign)[1].finished_at_ms == at_s * 1000
    campaign.finish_times_file(1).write_text("[1")
    with pytest.raises(LineageError, match="delete the file"):
        History(campaign)[1]
