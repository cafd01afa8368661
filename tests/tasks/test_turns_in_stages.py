"""An iteration whose rollouts go through an environment, by the stages' bodies (about 40 s)."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pipeline_scratch import CHANGES, PROJECT, all_files, params

from distil_core.config.models import Component, IterationParams
from distil_core.errors import ConfigError
from distil_core.progress import no_progress
from distil_core.tables.schemas import CONSULTATIONS, EVALUATION, FEEDBACK, ROLLOUTS
from distil_core.tables.store import read_rows, read_table
from distil_core.workspace import Workspace
from distil_tasks import base, consult, evaluate, problems, sample, tabulate, train

STAGES = (sample, consult, tabulate, train, evaluate)
BASE = {"architecture": CHANGES["base"]["architecture"] | {"max_positions": 200}}


def in_turns(iteration: int, num_workers: int = 1, **options: Any) -> IterationParams:
    environment = {
        "name": "turn_worlds.counting",
        "options": options,
        "max_turns": 3,
        "max_observation_tokens": 6,
        "observation_template": "={observation};",
    }
    template = "{prompt}?{attempt}#{verdict} {tool_output}|"
    return params(
        iteration,
        base=BASE,
        context={
            "environment": environment,
            "expert_template": template,
            "max_context_tokens": 120,
            "wording": {"keep": "all"},
        },
        evaluate={"num_samples": 4, "max_new_tokens": 4, "num_expert_samples": 2},
        verification={"num_workers": num_workers},
    )


@pytest.fixture(scope="module")
def _worlds() -> Any:
    """Environments that processes of their own can import."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(PROJECT / "tests" / "rollouts"))
        yield


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, _worlds: Any) -> Workspace:
    """An iteration in turns. Read only: tests that change it copy it."""
    made = Workspace(tmp_path_factory.mktemp("turns"))
    torch.set_num_threads(1)
    single = params(0, base=BASE)
    problems.body(made, single, no_progress)
    base.body(made, single, no_progress)
    for stage in STAGES:
        stage.body(made, in_turns(1), no_progress)
    return made


def test_every_stage_passes_the_turns_on(workspace: Workspace) -> None:
    rollouts = read_rows(workspace.rollouts_file(1), ROLLOUTS)
    consultations = read_rows(workspace.consultations_file(1), CONSULTATIONS)
    feedback = read_rows(workspace.feedback_dir(1), FEEDBACK)
    assert max(len(one.turns) for one in rollouts) > 1
    assert [one.rollout_id for one in feedback] == [one.rollout_id for one in rollouts]
    for rollout, judged, row in zip(rollouts, consultations, feedback, strict=True):
        assert list(row.response_ids) == list(rollout.response_ids)
        if len(rollout.turns) > 1:
            assert sum(row.turn_lengths) == len(row.response_ids)
            assert sum(row.turn_lengths[::2]) == len(row.behaviour_logprobs)
        if rollout.finish_reason == "length":
            assert (judged.verdict, judged.reward) == ("truncated", 0.0)
    _, context = read_table(workspace.rollouts_file(1), ROLLOUTS)
    assert context["environment"]["max_turns"] == 3


def test_rewards_of_turns_are_trained_on(workspace: Workspace, tmp_path: Path) -> None:
    """The world gives one for each turn after which it goes on."""
    feedback = read_rows(workspace.feedback_dir(1), FEEDBACK)
    for row in feedback:
        assert all(reward in (0.25, None) for reward in row.turn_rewards)
    assert any(len(row.turn_rewards) > 1 for row in feedback)
    shutil.copytree(workspace.root, tmp_path / "again")
    again, settings = Workspace(tmp_path / "again"), in_turns(1)
    grpo = Component(name="grpo", options={"credit": "turn"})
    train_params = settings.train.model_copy(update={"objective": grpo})
    train.body(again, settings.model_copy(update={"train": train_params}), no_progress)
    curve = again.train_curve_file(1).read_text(encoding="utf-8")
    assert "return" in curve
    assert "nan" not in curve.lower()


def test_training_moves_the_policy_and_its_losses_are_finite(workspace: Workspace) -> None:
    weights = [
        workspace.policy_dir(number).joinpath("model.safetensors").read_bytes() for number in (0, 1)
    ]
    assert weights[0] != weights[1]
    curve = workspace.train_curve_file(1).read_text(encoding="utf-8")
    assert "nan" not in curve.lower()


def test_an_evaluation_plays_whole_rollouts(workspace: Workspace) -> None:
    rows = read_rows(workspace.evaluation_file(1), EVALUATION)
    assert all(row.num_samples == 4 for row in rows)
    # What the environment said is shown, as the policy read it.
    assert any(";" in row.first_response for row in rows)
    metrics = json.loads(workspace.metrics_file(1).read_text(encoding="utf-8"))
    assert metrics["expert_num_problems"] > 0
    assert metrics["response_tokens_mean"] <= 3 * 4


def test_the_same_bytes_come_from_any_number_of_workers(
    workspace: Workspace, tmp_path: Path
) -> None:
    shutil.copytree(workspace.root, tmp_path / "again")
    again = Workspace(tmp_path / "again")
    settings = in_turns(1, num_workers=3, delay_s=0.02)
    for stage in (sample, consult, tabulate):
        stage.body(again, settings, no_progress)
    before, after = all_files(workspace), all_files(again)
    for name in (workspace.relative(workspace.consultations_file(1)),):
        assert before[name] == after[name]
    rollouts = [read_rows(one.rollouts_file(1), ROLLOUTS) for one in (workspace, again)]
    assert rollouts[0] == rollouts[1]
    tables = [read_rows(one.feedback_dir(1), FEEDBACK) for one in (workspace, again)]
    assert tables[0] == tables[1]


def test_an_environment_that_judges_needs_no_verifier(workspace: Workspace, tmp_path: Path) -> None:
    shutil.copytree(workspace.root, tmp_path / "judged")
    judged = Workspace(tmp_path / "judged")
    settings = in_turns(1, own_verdict=True)
    for stage in (sample, consult):
        stage.body(judged, settings, no_progress)
    rollouts = read_rows(judged.rollouts_file(1), ROLLOUTS)
    verdicts = read_rows(judged.consultations_file(1), CONSULTATIONS)
    assert {row.verdict for row in verdicts} >= {"correct", "wrong"}
    for rollout, row in zip(rollouts, verdicts, strict=True):
        if rollout.turns and rollout.finish_reason == "stop":
            assert (row.verdict, row.reward) == (
                rollout.turns[-1].verdict,
                rollout.turns[-1].reward,
            )


def test_an_expert_that_reads_text_alone_is_refused() -> None:
    with pytest.raises(ConfigError, match="does not follow what an environment answers"):
        params(
            1,
            base=BASE,
            context={
                "max_context_tokens": 120,
                "environment": {"name": "tools", "max_turns": 2, "max_observation_tokens": 6}
                | {"options": {"tools": [{"name": "calculator"}]}},
            },
            tabulate={
                "expert": {
                    "name": "program",
                    "options": {
                        "program": {"name": "reference"},
                        "num_workers": 1,
                        "label_smoothing": 0.02,
                    },
                }
            },
        )
