"""Checks kept beside their tables, and limits that warn and stop, on a tiny campaign (60 s)."""

import json
import shutil
from typing import Any

import pipeline_scratch
import pytest

from distil_core.checks.kept import (
    CHECKED_TABLES,
    EVALUATION,
    FEEDBACK,
    ROLLOUTS,
    TRAINING,
    all_checks,
    kept_checks,
    table_checks,
    written_by,
)
from distil_core.checks.limits import findings, findings_of_stage, require_within_limits
from distil_core.config.models import MINIMA, CheckParams, IterationParams
from distil_core.errors import CheckError, DataError
from distil_core.pipeline import STAGES, stage_named
from distil_core.workspace import Workspace


@pytest.fixture
def workspace(copy: Workspace) -> Workspace:
    return copy


def params(iteration: int, **limits: dict[str, float]) -> IterationParams:
    settings = pipeline_scratch.params(iteration)
    checks = CheckParams.model_validate(limits)
    return settings.model_copy(update={"checks": checks})


def test_each_table_of_the_pipeline_has_its_checks(workspace: Workspace) -> None:
    assert {table.name for stage in STAGES for table in written_by(stage)} == {
        table.name for table in CHECKED_TABLES
    }
    found = all_checks(workspace, 1)
    assert list(found) == ["rollouts", "consultations", "feedback", "train_curve", "evaluation"]
    assert found["train_curve"]["steps"] == 5
    assert found["train_curve"]["gradient_norm_max"] > 1e-3
    assert found["rollouts"]["rows"] == found["feedback"]["rows"] == 24
    assert found["feedback"]["mass_error"] < 1e-5
    assert list(all_checks(workspace, 0)) == ["evaluation"]


def test_what_is_kept_is_of_this_very_table(workspace: Workspace) -> None:
    first = table_checks(workspace, ROLLOUTS, 1)
    file = workspace.checks_file(workspace.rollouts_file(1))
    kept = json.loads(file.read_text())
    assert kept["checks"] == first
    assert kept["table"] == "data/iterations/001/rollouts.parquet"
    kept["checks"]["rows"] = 7.0
    file.write_text(json.dumps(kept))
    assert table_checks(workspace, ROLLOUTS, 1)["rows"] == 7, "it is read, not measured again"
    assert kept_checks(workspace, 1)["rollouts"]["rows"] == 7
    shutil.copy(workspace.rollouts_file(2), workspace.rollouts_file(1))
    assert kept_checks(workspace, 1) == {}
    assert table_checks(workspace, ROLLOUTS, 1)["rows"] == 24


def test_a_training_curve_is_known_by_its_bytes(workspace: Workspace) -> None:
    path = workspace.train_curve_file(1)
    first = table_checks(workspace, TRAINING, 1)
    path.write_text("step,gradient_norm\n0,0.0\n1,1e-9\n")
    assert table_checks(workspace, TRAINING, 1) == {"steps": 2.0, "gradient_norm_max": 1e-9}
    assert first["steps"] == 5
    for damage in ("", "step\n0\n"):
        path.write_text(damage)
        with pytest.raises(DataError, match="cannot be read"):
            table_checks(workspace, TRAINING, 1)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"version": 1, "digest": "x"}'])
def test_a_damaged_file_is_measured_again(workspace: Workspace, damage: str) -> None:
    first = table_checks(workspace, FEEDBACK, 1)
    workspace.checks_file(workspace.feedback_dir(1)).write_text(damage)
    assert kept_checks(workspace, 1) == {}
    assert table_checks(workspace, FEEDBACK, 1) == first


def test_a_table_that_is_not_here_or_is_none_of_ours(workspace: Workspace) -> None:
    workspace.evaluation_file(1).write_bytes(b"no table")
    with pytest.raises(DataError, match="cannot be read"):
        table_checks(workspace, EVALUATION, 1)
    shutil.rmtree(workspace.feedback_dir(1))
    with pytest.raises(DataError, match=r"no table .*feedback"):
        table_checks(workspace, FEEDBACK, 1)


@pytest.mark.parametrize(
    ("check", "value", "limits", "level"),
    [
        ("truncation_share", 0.2, {"warn": 0.2, "stop": 0.5}, "ok"),
        ("truncation_share", 0.21, {"warn": 0.2, "stop": 0.5}, "warn"),
        ("truncation_share", 0.51, {"warn": 0.2, "stop": 0.5}, "stop"),
        ("truncation_share", 1.0, {"warn": None}, "alarm"),
        ("truncation_share", 1.0, {"warn": None, "alarm": None}, "ok"),
        ("truncation_share", 1.0, {}, "alarm"),
        ("silent_share", 1.0, {}, "alarm"),
        ("silent_share", 1.0, {"stop": 0.9}, "stop"),
        ("dead_group_share", 1.0, {}, "alarm"),
        ("dead_group_share", 0.99, {}, "ok"),
        ("gradient_norm_max", 0.0, {}, "alarm"),
        ("gradient_norm_max", 1e-3, {}, "ok"),
        ("gradient_norm_max", 1e-3, {"stop": 0.01}, "stop"),
        ("expert_gain", 0.01, {"warn": 0.0, "stop": -0.1}, "ok"),
        ("expert_gain", 0.0, {"warn": 0.0, "stop": -0.1}, "warn"),
        ("expert_gain", -0.1, {"warn": 0.0, "stop": -0.1}, "stop"),
        ("rows", 12.0, {}, "ok"),
    ],
)
def test_levels(check: str, value: float, limits: dict[str, Any], level: str) -> None:
    settings = CheckParams.model_validate({check: limits} if limits else {})
    (found,) = findings({"rollouts": {check: value}}, settings)
    assert found.level == level
    assert (found.limit is None) == (level == "ok")


def test_a_finding_says_which_limit_it_is_beyond() -> None:
    settings = CheckParams.model_validate({"truncation_share": {"stop": 0.5}})
    (found,) = findings({"rollouts": {"truncation_share": 0.61}}, settings)
    assert found.line() == (
        "rollouts: truncation_share 0.610, expected at most 0.5 (checks.truncation_share.stop)"
    )
    (found,) = findings({"evaluation": {"expert_gain": -0.02}}, settings)
    assert found.line() == (
        "evaluation: expert_gain -0.020, expected more than 0 (checks.expert_gain.warn)"
    )


def test_an_alarm_says_what_to_do() -> None:
    (found,) = findings({"feedback": {"silent_share": 1.0}}, CheckParams())
    assert found.line() == (
        "ALARM: feedback: silent_share 1, expected at most 0.999 (checks.silent_share.alarm): have "
        "consult give feedback that context.expert_template names and context.wording keeps"
    )


STOPS = {
    "evaluate": ("gradient_norm_max", "train_curve"),
    "consult": ("duplicate_share", "rollouts"),
    "tabulate": ("dead_group_share", "consultations"),
    "train": ("unlabelled_share", "feedback"),
}


@pytest.mark.parametrize("stage", STOPS)
def test_a_stop_comes_before_the_next_stage_and_loses_nothing(
    workspace: Workspace, stage: str
) -> None:
    check, table = STOPS[stage]
    before = {path: path.read_bytes() for path in workspace.root.rglob("*.parquet")}
    asked = params(1, **{check: {"stop": 99.0 if check in MINIMA else -1.0}})
    with pytest.raises(
        CheckError, match=rf"{stage}@001 does not begin: {table}: {check} "
    ) as found:
        require_within_limits(workspace, stage_named(stage), asked)
    assert f"checks.{check}.stop in iterations/001.yaml" in str(found.value)
    assert {path: path.read_bytes() for path in workspace.root.rglob("*.parquet")} == before
    # The stage that made the table is not held up by it.
    require_within_limits(workspace, stage_named(stage), params(1))


def test_nothing_is_sampled_for_an_expert_that_is_no_better(workspace: Workspace) -> None:
    asked = params(2, expert_gain={"warn": 2.0, "stop": 2.0})
    with pytest.raises(CheckError, match=r"policy to start from: expert_gain .* more than 2 "):
        require_within_limits(workspace, stage_named("sample"), asked)
    require_within_limits(workspace, stage_named("evaluate"), asked)
    workspace.handover_evaluation_file(1).unlink()
    require_within_limits(workspace, stage_named("sample"), asked)


def test_training_asks_no_table_that_it_does_not_need(workspace: Workspace) -> None:
    workspace.rollouts_file(1).unlink()
    workspace.consultations_file(1).unlink()
    require_within_limits(workspace, stage_named("train"), params(1, duplicate_share={"stop": -1}))


def test_findings_of_a_stage_are_of_what_it_wrote(workspace: Workspace) -> None:
    found = findings_of_stage(workspace, stage_named("consult"), params(1))
    assert {finding.table for finding in found} == {"consultations"}
    assert findings_of_stage(workspace, stage_named("gate"), params(1)) == []


def test_a_limit_that_is_left_out_keeps_its_default() -> None:
    settings = CheckParams.model_validate({"truncation_share": {"stop": 0.9}})
    assert settings.truncation_share.warn == CheckParams().truncation_share.warn == 0.2
    off = CheckParams.model_validate({"truncation_share": {"warn": None}})
    assert off.truncation_share.warn is None


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"truncation_share": {"warn": 0.6, "stop": 0.5}}, "warns at 0.6 but stops at 0.5"),
        ({"expert_gain": {"warn": -0.2, "stop": -0.1}}, "warns at -0.2 but stops at -0.1"),
        ({"truncation": {"warn": 0.6}}, "truncation"),
        ({"truncation_share": {"warn": float("nan")}}, "finite"),
        ({"truncation_share": 0.5}, "truncation_share"),
    ],
)
def test_limits_that_cannot_be_meant_are_refused(limits: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CheckParams.model_validate(limits)
