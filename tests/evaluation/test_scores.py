"""The few figures of an iteration that `dvc metrics show` prints (1 s)."""

import json
from pathlib import Path

import pytest

from distil_core.evaluation.comparison import Difference
from distil_core.evaluation.decision import GateDecision, write_decision
from distil_core.evaluation.scores import write_scores
from distil_core.workspace import Workspace

METRICS = {
    "iteration": 2,
    "pass_at_1": 0.5,
    "pass_at_1_low": 0.4,
    "pass_at_2": 0.6,
    "pass_at_4": 0.7,
    "truncation_rate": 0.01,
    "malformed_rate": 0.02,
    "expert_gain": 0.1,
    "generalisation_pass_at_1": 0.3,
}
KEPT = {
    "pass_at_1": 0.5,
    "pass_at_4": 0.7,
    "truncation_rate": 0.01,
    "malformed_rate": 0.02,
    "expert_gain": 0.1,
}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path)
    workspace.iteration_dir(2).mkdir(parents=True)
    workspace.metrics_file(2).write_text(json.dumps(METRICS))
    return workspace


def scores(workspace: Workspace) -> dict[str, float]:
    write_scores(workspace, 2)
    found: dict[str, float] = json.loads(workspace.scores_file(2).read_text())
    return found


def test_a_handful(workspace: Workspace) -> None:
    assert scores(workspace) == KEPT
    difference = {"pass_at_1": Difference(-0.1, -0.2, 0.0)}
    write_decision(
        workspace,
        GateDecision(2, False, False, 1, 1, 1, 1, "worse", difference, difference),
    )
    assert scores(workspace) == KEPT | {"promoted": 0, "champion": 1}


def test_nothing_is_written_without_an_evaluation_or_anew_without_a_change(
    workspace: Workspace,
) -> None:
    write_scores(workspace, 1)
    assert not workspace.scores_file(1).exists()
    scores(workspace)
    inode = workspace.scores_file(2).stat().st_ino
    scores(workspace)
    assert workspace.scores_file(2).stat().st_ino == inode


def test_one_sample(workspace: Workspace) -> None:
    workspace.metrics_file(2).write_text(json.dumps({"pass_at_1": 0.5}))
    assert scores(workspace) == {"pass_at_1": 0.5}
