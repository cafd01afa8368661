"""A weight that changes over iterations: each is frozen with its own number (5 s)."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from distil_core.campaign.iterations import extend, restart
from distil_core.campaign.load import load_iteration_params, parse_params
from distil_core.campaign.schedules import scheduled_options
from distil_core.config.models import Component, LinearSchedule
from distil_core.errors import ConfigError
from distil_core.objectives import OBJECTIVES
from distil_core.workspace import Workspace
from distil_core.yaml_text import dump_yaml, parse_yaml

SCHEDULE = {"start": 0.7, "end": 0.95, "over_iterations": 2}


def blend(weight: Any) -> dict[str, Any]:
    return {"name": "blend", "options": {"reward_weight": weight}}


@hypothesis_settings(deadline=None, derandomize=True)
@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 20), st.integers(0, 60))
def test_it_is_linear_and_then_constant(start: float, end: float, over: int, number: int) -> None:
    schedule = LinearSchedule(start=start, end=end, over_iterations=over)
    assert schedule.at(0) == schedule.at(1) == start
    assert schedule.at(1 + over) == schedule.at(2 + over + number) == end
    steps = max(0, min(number - 1, over))
    assert schedule.at(number) == pytest.approx(start + (end - start) * steps / over)
    assert min(start, end) <= schedule.at(number) + 1e-12


def weights(workspace: Workspace, numbers: list[int]) -> list[float]:
    """As the frozen files have them."""
    return [
        parse_yaml(workspace.frozen_params_file(number).read_text())["train"]["objective"][
            "options"
        ]["reward_weight"]
        for number in numbers
    ]


def test_each_iteration_is_frozen_with_its_number(settings: dict[str, Any], tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    settings["train"]["objective"] = blend(SCHEDULE)
    settings["num_iterations"] = 2
    (tmp_path / "params.yaml").write_text(dump_yaml(settings))
    restart(workspace, {"train": 1})
    assert weights(workspace, [0, 1, 2]) == [0.7, 0.7, pytest.approx(0.825)]
    extend(workspace, {"train": 1}, count=3)
    assert weights(workspace, [1, 3, 4, 5]) == [0.7, 0.95, 0.95, 0.95]
    # And the settings that more are frozen from still say how it goes on.
    kept = parse_yaml((tmp_path / "params.yaml").read_text())
    assert kept["train"]["objective"]["options"]["reward_weight"] == SCHEDULE
    params = load_iteration_params(workspace, 2)
    component = params.train.objective
    built: Any = OBJECTIVES.build(component.name, component.options)
    assert built.parts["grpo"][0] == pytest.approx(0.825)


def test_settings_without_a_schedule_are_frozen_as_they_are() -> None:
    assert scheduled_options(Component(**blend(0.3)), 4) == {}
    assert scheduled_options(Component(name="forward_cross_entropy"), 4) == {}
    assert scheduled_options(Component(**blend(SCHEDULE)), 2) == {
        "reward_weight": pytest.approx(0.825)
    }


def test_only_an_iteration_can_be_trained(settings: dict[str, Any]) -> None:
    settings["train"]["objective"] = blend(SCHEDULE)
    params = parse_params(settings, "params.yaml")
    with pytest.raises(ConfigError, match="only an iteration has a number of it"):
        OBJECTIVES.build("blend", params.train.objective.options)


@pytest.mark.parametrize(
    "wrong",
    [
        {**SCHEDULE, "start": -0.1},
        {**SCHEDULE, "end": 1.5},
        {**SCHEDULE, "over_iterations": 0},
        {"start": 0.5, "end": 0.7},
        {**SCHEDULE, "steps": 3},
        1.5,
        "0.5",
    ],
)
def test_wrong_weights_are_refused(settings: dict[str, Any], wrong: Any) -> None:
    settings["train"]["objective"] = blend(wrong)
    with pytest.raises(ConfigError, match="reward_weight"):
        parse_params(settings, "params.yaml")


def test_a_schedule_that_ends_without_reward_still_compares_rollouts() -> None:
    for schedule in (SCHEDULE, {**SCHEDULE, "end": 0.0}, {**SCHEDULE, "start": 0.0}):
        values = {"reward_weight": schedule, "distillation": "reverse_kl"}
        assert OBJECTIVES.options("blend", values).compares_rollouts
    never = {"reward_weight": {**SCHEDULE, "start": 0.0, "end": 0.0}, "distillation": "reverse_kl"}
    assert not OBJECTIVES.options("blend", never).compares_rollouts
