"""The code that stages are frozen with, and what happens when there is other code (2 s)."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from distil_core.campaign.iterations import restart
from distil_core.campaign.load import load_iteration_params, parse_params
from distil_core.campaign.stage_code import (
    adopt_code,
    all_digests,
    other_code,
    our_digests,
    require_frozen_code,
    stage_components,
)
from distil_core.config.models import Params
from distil_core.errors import ConfigError
from distil_core.pipeline import BASE, CONSULT, EVALUATE, GATE, PROBLEMS, STAGES, TABULATE, TRAIN
from distil_core.workspace import Workspace

VERSIONS = {stage.name: 2 for stage in STAGES}
OTHER = "0123456789abcdef objective forward_cross_entropy"


@pytest.fixture
def workspace(tmp_path: Path, settings: dict[str, Any]) -> Workspace:
    workspace = Workspace(tmp_path)
    workspace.params_file.write_text(yaml.safe_dump(settings | {"num_iterations": 2}))
    restart(workspace, VERSIONS)
    return workspace


def change_frozen(workspace: Workspace, iteration: int, name: str, version: Any) -> None:
    """Edit the stage's entry of stage_versions."""
    path = workspace.frozen_params_file(iteration)
    values = yaml.safe_load(path.read_text())
    values["stage_versions"][name] = version
    path.write_text(yaml.safe_dump(values, sort_keys=False))


def names(stage: Any, params: Params) -> set[str]:
    found = stage_components(stage, params)
    return {f"{code.component.kind} {code.component.name}" for code in found}


def test_what_stages_use(settings: dict[str, Any]) -> None:
    params = parse_params(settings, "x")
    source, verifier = "problem source chain_arithmetic", "verifier chain_arithmetic"
    assert names(PROBLEMS, params) == {source, verifier}
    assert names(BASE, params) == {source, verifier}
    says = "feedback source verifier"
    assert names(CONSULT, params) == {verifier, says}
    assert names(TABULATE, params) == {"expert self", "engine transformers"}
    assert names(TRAIN, params) == {"objective forward_cross_entropy"}
    assert names(EVALUATE, params) == {verifier, says, "expert self", "engine transformers"}
    assert names(GATE, params) == set()


def test_stages_use_the_sources_of_feedback_that_there_are(settings: dict[str, Any]) -> None:
    settings["consult"] |= {"peer_solution": True}
    says = {"feedback source verifier", "feedback source peer_solution"}
    params = parse_params(settings, "x")
    assert names(CONSULT, params) == {"verifier chain_arithmetic", *says}
    assert says < names(EVALUATE, params)
    # Whether one of the campaign's own asks the policy, only its code says.
    settings["consult"]["feedback_sources"] = [{"name": "verifier", "options": {}}]
    assert "engine transformers" in names(CONSULT, parse_params(settings, "x"))


def test_what_components_use_in_their_turn(settings: dict[str, Any]) -> None:
    options = {"distillation": "reverse_kl", "reward_weight": 0.5}
    settings["train"]["objective"] = {"name": "blend", "options": options}
    rows: dict[str, Any] = {
        "train": {"path": "a", "sha256": "0" * 64},
        "eval": {"path": "b", "sha256": "1" * 64},
    }
    rows |= {"row_format": "mbpp"}
    settings["problems"] |= {"source": {"name": "jsonl", "options": rows}, "generalisation": None}
    params = Params.model_validate(settings)
    assert names(TRAIN, params) == {"objective blend", "objective reverse_kl", "objective grpo"}
    assert "row format mbpp" in names(PROBLEMS, params)


def test_nothing_is_said_of_what_is_as_frozen(workspace: Workspace) -> None:
    assert other_code(workspace, [0, 1, 2], VERSIONS) == []
    for stage in STAGES:
        iteration = stage.first_iteration or 0
        params = load_iteration_params(workspace, iteration)
        require_frozen_code(workspace, stage, params, 2)


def test_other_code_is_said_once_for_all_iterations(workspace: Workspace) -> None:
    for iteration in (1, 2):
        change_frozen(workspace, iteration, "train", {"version": 2, "code": [OTHER]})
    (line,) = other_code(workspace, [0, 1, 2], VERSIONS)
    assert line.startswith("train of iteration 1, 2 was made with other code than there is now: ")
    assert "objective forward_cross_entropy (objectives.base, " in line
    assert "objectives.forward_cross_entropy)" in line
    assert "distil restart" in line
    (line,) = other_code(workspace, [2], VERSIONS | {"train": 2, "gate": 5})[1:]
    assert line.startswith("gate of iteration 2 was made")
    assert "the stage's own code (version 2, now 5)" in line


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"version": 2, "code": [OTHER]}, r"objective forward_cross_entropy \(objectives\.base"),
        ({"version": 2, "code": []}, r"objective forward_cross_entropy \(objectives\.base"),
        ({"version": 1, "code": [OTHER]}, r"the stage's own code \(version 1, now 2\); objective"),
    ],
)
def test_a_stage_that_has_to_run_refuses_other_code(
    workspace: Workspace, entry: Any, expected: str
) -> None:
    change_frozen(workspace, 1, "train", entry)
    params = load_iteration_params(workspace, 1)
    with pytest.raises(ConfigError, match=rf"train@001 has to run, .*001\.yaml .*: {expected}"):
        require_frozen_code(workspace, TRAIN, params, 2)


def test_iterations_frozen_before_there_were_digests_stay_as_they_are(workspace: Workspace) -> None:
    change_frozen(workspace, 1, "train", 1)
    require_frozen_code(workspace, TRAIN, load_iteration_params(workspace, 1), 2)
    before = workspace.frozen_params_file(1).read_text()
    adopt_code(workspace, TRAIN, 1, 2)
    assert workspace.frozen_params_file(1).read_text() == before
    assert other_code(workspace, [0, 1, 2], VERSIONS) == []


def test_a_stage_that_never_ran_takes_the_code_of_now(workspace: Workspace) -> None:
    before = yaml.safe_load(workspace.frozen_params_file(1).read_text())
    change_frozen(workspace, 1, "train", {"version": 1, "code": [OTHER]})
    adopt_code(workspace, TRAIN, 1, 2)
    assert yaml.safe_load(workspace.frozen_params_file(1).read_text()) == before
    params = load_iteration_params(workspace, 1)
    assert params.stage_versions["train"].code == our_digests(TRAIN, params)


def test_a_user_s_component_counts_whole_and_its_use_of_ours_is_frozen(
    workspace: Workspace, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = workspace.root / "lab_s"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "_helper.py").write_text("X = 1\n")
    (folder / "focal.py").write_text(
        "from distil_core.objectives.reverse_kl import Options, build\nfrom lab_s import _helper\n"
    )
    monkeypatch.syspath_prepend(str(workspace.root))
    settings["train"]["objective"] = {"name": "lab_s.focal", "options": {}}
    params = parse_params(settings, "x")
    (ours,) = our_digests(TRAIN, params)
    before = all_digests(TRAIN, params)
    assert ours.endswith(" objective lab_s.focal")
    workspace.params_file.write_text(yaml.safe_dump(settings))
    restart(workspace, VERSIONS)
    params = load_iteration_params(workspace, 1)
    require_frozen_code(workspace, TRAIN, params, 2)
    (folder / "_helper.py").write_text("X = 2\n")
    assert all_digests(TRAIN, params) != before
    assert our_digests(TRAIN, params) == (ours,)
    with pytest.raises(ConfigError, match=r"lab_s/_helper\.py changed since this process loaded"):
        require_frozen_code(workspace, TRAIN, params, 2)
