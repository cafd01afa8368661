"""An expert that no evaluation has asked is asked about the rollouts before training (60 s)."""

from typing import Any

import pipeline_scratch
import pytest
import yaml

from distil_core.campaign.better_expert import require_better_expert
from distil_core.config.models import IterationParams
from distil_core.errors import GateError
from distil_core.evaluation import expert_on_rollouts
from distil_core.evaluation.expert_on_rollouts import gain_on_rollouts
from distil_core.evaluation.expert_with_feedback import sample_expert
from distil_core.pipeline import stage_named
from distil_core.progress import no_progress
from distil_core.tables.schemas import CONSULTATIONS, ROLLOUTS
from distil_core.tables.store import read_rows
from distil_core.workspace import Workspace


@pytest.fixture
def workspace(copy: Workspace) -> Workspace:
    """With frozen settings, of which the evaluation of the base was made."""
    for iteration in (0, 1):
        path = copy.frozen_params_file(iteration)
        path.parent.mkdir(exist_ok=True)
        values = pipeline_scratch.params(iteration).model_dump(mode="json")
        path.write_text(yaml.safe_dump(values))
    return copy


def asking(**changes: dict[str, Any]) -> IterationParams:
    return pipeline_scratch.params(1, gate={"require_better_expert": True}, **changes)


def test_it_is_asked_on_each_problem_once(workspace: Workspace) -> None:
    params = asking()
    found = gain_on_rollouts(workspace, params, workspace.policy_dir(0), no_progress)
    assert found == gain_on_rollouts(workspace, params, workspace.policy_dir(0), no_progress)
    assert found is not None
    assert found.num_problems == 8
    rollouts = read_rows(workspace.rollouts_file(1), ROLLOUTS)
    judged = read_rows(workspace.consultations_file(1), CONSULTATIONS)
    right = [one.verdict == "correct" for one in judged]
    assert found.student.value == pytest.approx(sum(right) / len(rollouts))
    assert found.gain.value == pytest.approx(found.expert.value - found.student.value)
    assert not list(workspace.scratch_dir.rglob("expert-*.sqlite"))


def test_it_answers_from_the_distributions_that_are_stored_of_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A temperature of the expert's counts as one of the sampler."""
    answers: list[list[Any]] = []

    def kept(*arguments: Any) -> list[Any]:
        answers.append(sample_expert(*arguments))
        return answers[-1]

    monkeypatch.setattr(expert_on_rollouts, "sample_expert", kept)
    expert = asking().tabulate.expert
    sharp = expert.model_copy(update={"options": expert.options | {"temperature": 0.25}})
    by_the_expert = asking(tabulate={"expert": sharp.model_dump()})
    by_the_sampler = asking(sample={"temperature": 0.25})
    for params in (by_the_expert, by_the_sampler, asking()):
        gain_on_rollouts(workspace, params, workspace.policy_dir(0), no_progress)
    ours, same, as_it_is = ([one.token_ids for one in each] for each in answers)
    assert ours == same
    assert ours != as_it_is


def test_an_expert_without_anything_to_read_is_not_measured(workspace: Workspace) -> None:
    silent = asking(context={"expert_template": "{prompt}?{tool_output}|"})
    assert gain_on_rollouts(workspace, silent, workspace.policy_dir(0), no_progress) is None


def test_training_waits_for_an_expert_of_other_settings(workspace: Workspace) -> None:
    """Of a template that the base never learned to read, so that its answers are no better."""
    prepared: list[Any] = []

    def begin(params: IterationParams, stage: str = "train") -> None:
        require_better_expert(workspace, stage_named(stage), params, prepared.append, no_progress)

    other = asking(context={"expert_template": "{prompt}{execution_trace}|"})
    begin(other, "sample")
    assert prepared == []
    with pytest.raises(GateError, match=r"train@001 does not begin.* 8 problems of this iteration"):
        begin(other)
    assert prepared == [other.compute]
    workspace.rollouts_file(1).unlink()
    begin(other)
