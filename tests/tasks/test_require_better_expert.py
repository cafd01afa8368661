"""An iteration whose expert is not better does not begin, where settings ask for one (10 s)."""

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from distil_core.campaign.better_expert import expert_alarm, measured_expert, require_better_expert
from distil_core.campaign.iterations import restart
from distil_core.campaign.load import load_iteration_params, load_params, parse_params
from distil_core.config.models import IterationParams, Params
from distil_core.errors import GateError
from distil_core.evaluation.decision import read_decision
from distil_core.pipeline import stage_named
from distil_core.progress import no_progress
from distil_core.tables.schemas import EVALUATION
from distil_core.tables.store import write_table
from distil_core.workspace import Workspace
from distil_flows.stages import stage_versions
from distil_tasks import gate, sample
from distil_tasks.stage import run_body

sys.path.append(str(Path(__file__).parents[1] / "evaluation"))
from evaluation_rows import row

PROJECT = Path(__file__).parents[2]
VERSIONS = stage_versions()


def settings(pretrained: bool = True, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    if pretrained:
        values["base"] = {"kind": "pretrained", "path_or_id": "model"}
    for section, each in changes.items():
        values[section] |= each
    return values


def required(**changes: Any) -> bool | None:
    return parse_params(settings(**changes), "params.yaml").gate.require_better_expert


def test_it_is_on_for_a_pretrained_base_whose_expert_is_read() -> None:
    assert required() is True
    assert required(gate={"require_better_expert": False}) is False
    assert required(train={"objective": {"name": "grpo"}}) is None
    assert required(pretrained=False) is None
    assert required(pretrained=False, gate={"require_better_expert": False}) is None
    assert required(pretrained=False, gate={"require_better_expert": True}) is True


def test_frozen_iterations_of_before_ask_for_nothing_and_stay_as_they_are() -> None:
    for pretrained in (True, False):
        values = settings(pretrained) | {"iteration": 1, "stage_versions": {}}
        frozen = IterationParams.model_validate(values)
        assert frozen.gate.require_better_expert is None
        assert "require_better_expert" not in frozen.model_dump(mode="json")["gate"]


def test_a_read_value_is_read_again() -> None:
    for chosen in (True, False):
        first = parse_params(settings(gate={"require_better_expert": chosen}), "params.yaml")
        assert Params.model_validate(first.model_dump(mode="json")) == first


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path)
    values = settings(evaluate={"num_samples": 4, "num_bootstrap": 200})
    values["gate"]["margins"] = {"pass_at_1": 0.02}
    workspace.params_file.write_text(yaml.safe_dump(values))
    (tmp_path / "iterations").mkdir()
    restart(workspace, VERSIONS)
    return workspace


def evaluated(workspace: Workspace, iteration: int, student: int, expert: int | None) -> None:
    """The student is right on so many of four samples, by turns one more; the expert on so many of
    two."""
    asked = {} if expert is None else {"expert_num_samples": 2, "expert_num_correct": expert}
    rows = [
        row(min(4, student + index % 2), problem_id=f"{index:03d}", **asked) for index in range(40)
    ]
    context = {"iteration": iteration, "evaluate": {}}
    write_table(workspace.evaluation_file(iteration), EVALUATION, rows, context)
    workspace.policy_dir(iteration).mkdir(parents=True, exist_ok=True)


def frozen(workspace: Workspace, iteration: int) -> IterationParams:
    return load_iteration_params(workspace, iteration, with_components=False)


def begin(workspace: Workspace, stage: str, iteration: int) -> None:
    params = frozen(workspace, iteration)
    require_better_expert(workspace, stage_named(stage), params, lambda _: None, no_progress)


def test_an_expert_that_is_worse_keeps_the_iteration_from_beginning(workspace: Workspace) -> None:
    evaluated(workspace, 0, student=3, expert=1)
    alarm = expert_alarm(workspace, stage_named("evaluate"), frozen(workspace, 0))
    assert alarm is not None
    assert alarm.startswith("ALARM: the expert is not better than the student: it is right 0.500")
    for stage in ("sample", "train"):
        with pytest.raises(GateError) as found:
            begin(workspace, stage, 1)
        message = str(found.value)
        assert message.startswith(f"{stage}@001 does not begin, since the expert is not better")
        for part in ("0.500 [0.500, 0.500]", "the student 0.87", "context.wording", "preview"):
            assert part in message
        assert "gate.require_better_expert: false in iterations/001.yaml" in message
    for stage in ("consult", "tabulate", "evaluate", "gate"):
        begin(workspace, stage, 1)


def test_the_stage_itself_refuses_before_its_work(workspace: Workspace) -> None:
    evaluated(workspace, 0, student=3, expert=1)
    before = sorted(workspace.root.rglob("*"))
    with pytest.raises(GateError, match="sample@001 does not begin"):
        run_body(sample.STAGE, workspace, 1)
    assert sorted(workspace.root.rglob("*")) == before


def test_what_lets_an_iteration_begin(workspace: Workspace) -> None:
    begin(workspace, "sample", 1)  # no evaluation is here
    evaluated(workspace, 0, student=0, expert=2)
    begin(workspace, "sample", 1)
    assert expert_alarm(workspace, stage_named("evaluate"), frozen(workspace, 0)) is None
    evaluated(workspace, 0, student=3, expert=None)
    begin(workspace, "sample", 1)
    evaluated(workspace, 0, student=3, expert=1)
    path = workspace.frozen_params_file(1)
    values = yaml.safe_load(path.read_text())
    assert values["gate"]["require_better_expert"] is True
    for chosen in (False, None):
        values["gate"]["require_better_expert"] = chosen
        path.write_text(yaml.safe_dump(values))
        begin(workspace, "sample", 1)


def test_an_evaluation_of_another_expert_says_nothing_of_this_one(workspace: Workspace) -> None:
    evaluated(workspace, 0, student=3, expert=1)
    path = workspace.frozen_params_file(1)
    values = yaml.safe_load(path.read_text())
    values["context"]["wording"] = {"keep": "corrections"}
    path.write_text(yaml.safe_dump(values))
    found = measured_expert(workspace, frozen(workspace, 1))
    assert found is not None
    assert not found.same_settings
    begin(workspace, "sample", 1)


def test_the_gate_writes_it_down(workspace: Workspace) -> None:
    evaluated(workspace, 0, student=0, expert=2)
    evaluated(workspace, 1, student=3, expert=1)
    gate.body(workspace, frozen(workspace, 1), no_progress)
    decision = read_decision(workspace, 1)
    assert decision.promoted
    assert decision.expert is not None
    assert not decision.expert.is_better
    with pytest.raises(GateError, match=r"sample@002 does not begin.*\(policy 1\)"):
        begin(workspace, "sample", 2)
    old = frozen(workspace, 1)
    without = old.model_copy(
        update={"gate": old.gate.model_copy(update={"require_better_expert": None})}
    )
    gate.body(workspace, without, no_progress)
    assert read_decision(workspace, 1).expert is None
    assert "expert" not in yaml.safe_load(workspace.decision_file(1).read_text())


def test_settings_are_not_said_to_have_changed(workspace: Workspace) -> None:
    assert load_params(workspace).gate == frozen(workspace, 1).gate
