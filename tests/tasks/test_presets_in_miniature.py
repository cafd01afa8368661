"""Each preset's own settings, made small, through every stage body (10 s)."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.expert_reads_feedback import label_accuracies
from distil_core.campaign import parse_iteration_params
from distil_core.config.models import IterationParams
from distil_core.feedback.transcript import feedback_on
from distil_core.progress import no_progress
from distil_core.tables.schemas import CONSULTATIONS, FEEDBACK, ROLLOUTS
from distil_core.tables.store import read_rows
from distil_core.workspace import Workspace
from distil_tasks import base, consult, evaluate, problems, sample, tabulate, train

PROJECT = Path(__file__).parents[2]
sys.path.append(str(PROJECT / "tests" / "flows"))
from front_door_scratch import tiny  # noqa: E402

PRESETS = ("math", "science", "code", "tools")


def params(values: dict[str, Any], iteration: int) -> IterationParams:
    frozen = values | {"iteration": iteration, "stage_versions": {}}
    return parse_iteration_params(frozen, "test")


@pytest.fixture(scope="module", params=PRESETS)
def finished(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Workspace, dict[str, Any]]:
    """A workspace after iteration 1, and its settings."""
    preset = PROJECT / "presets" / f"{request.param}.yaml"
    values = tiny(yaml.safe_load(preset.read_text(encoding="utf-8")))
    workspace = Workspace(tmp_path_factory.mktemp(request.param))
    for iteration, stages in enumerate(
        ((problems, base, evaluate), (sample, consult, tabulate, train, evaluate))
    ):
        workspace.iteration_dir(iteration).mkdir(parents=True)
        for stage in stages:
            stage.body(workspace, params(values, iteration), no_progress)
    return workspace, values


def test_it_goes_from_problems_to_a_new_policys_metrics(
    finished: tuple[Workspace, dict[str, Any]],
) -> None:
    workspace, values = finished
    for iteration in (0, 1):
        metrics = json.loads(workspace.metrics_file(iteration).read_text())
        assert metrics["num_problems"] == values["problems"]["num_eval"]
        assert 0 <= metrics["pass_at_1"] <= metrics["pass_at_4"] <= 1
    assert (workspace.policy_dir(1) / "model.safetensors").exists()


def test_every_rollout_gets_a_verdict_and_feedback_that_the_expert_reads(
    finished: tuple[Workspace, dict[str, Any]],
) -> None:
    workspace, values = finished
    num_rollouts = values["sample"]["num_prompts"] * values["sample"]["num_rollouts"]
    consultations = read_rows(workspace.consultations_file(1), CONSULTATIONS)
    assert len(consultations) == num_rollouts
    assert all(row.error is None for row in consultations)
    rows = read_rows(workspace.feedback_dir(1), FEEDBACK)
    assert len(rows) == num_rollouts
    rollouts = read_rows(workspace.rollouts_file(1), ROLLOUTS)
    for rollout, consultation, row in zip(rollouts, consultations, rows, strict=True):
        feedback = feedback_on(rollout, consultation)
        assert feedback
        # Of a first turn that was cut there is no trace: it was never done.
        assert row.has_expert == any(item.kind == "execution_trace" for item in feedback)
        assert row.has_expert or rollout.finish_reason == "length"
    assert any(row.has_expert for row in rows)


def test_whether_the_expert_reads_its_feedback_is_measured(
    finished: tuple[Workspace, dict[str, Any]],
) -> None:
    workspace, values = finished
    accuracies = label_accuracies(workspace, params(values, 1))
    assert [*accuracies] == [
        "with its feedback",
        "with another problem's feedback",
        "without feedback",
    ]
    assert all(0 <= one.all_states <= 1 for one in accuracies.values())
