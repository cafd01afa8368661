"""A settings file that holds only what differs (4 s, and the libraries' import)."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from distil_core.campaign import load_iteration_params, load_params
from distil_core.campaign.extends import WHOLE, merged, presets, read_settings
from distil_core.campaign.iterations import restart
from distil_core.campaign.load import load_params_file
from distil_core.errors import ConfigError
from distil_core.workspace import Workspace

PROJECT = Path(__file__).parents[2]
EMPTY = "iterations: {}\nevaluations: {}\ncurves: {loss: {}, cross_entropy: {}, pass_at_k: {}}\n"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path)
    workspace.iterations_file.write_text(EMPTY)
    return workspace


def load(workspace: Workspace, text: str) -> Any:
    workspace.params_file.write_text(text)
    return load_params(workspace)


def test_the_default_is_the_file_of_this_repository(workspace: Workspace) -> None:
    """And it comes with the package, wherever that is installed."""
    assert presets()["default"].read_bytes() == (PROJECT / "params.yaml").read_bytes()
    assert presets().keys() == {
        "default",
        "code",
        "instruct",
        "math",
        "opsd",
        "paper",
        "science",
        "sdpo",
        "tools",
    }
    assert load(workspace, "extends: default\n") == load_params_file(PROJECT / "params.yaml")


@pytest.mark.parametrize("name", ["code", "instruct", "math", "science"])
def test_a_preset_by_its_name(workspace: Workspace, name: str) -> None:
    expected = load_params_file(PROJECT / "presets" / f"{name}.yaml")
    assert load(workspace, f"extends: {name}\n") == expected
    assert load_params_file(Path(name)) == expected


def test_frozen_files_hold_all_of_it(workspace: Workspace) -> None:
    workspace.params_file.write_text("extends: default\nnum_iterations: 1\ntrain: {num_steps: 5}\n")
    restart(workspace, {})
    assert load_iteration_params(workspace, 1).train.num_steps == 5
    frozen = yaml.safe_load(workspace.frozen_params_file(1).read_text())
    assert "extends" not in frozen
    assert frozen["sample"]["num_prompts"] == 384


def test_a_chain_of_files(workspace: Workspace) -> None:
    folder = workspace.root / "lab"
    folder.mkdir()
    (folder / "slow.yaml").write_text("extends: ../own.yaml\ntrain: {learning_rate: 1e-5}\n")
    (workspace.root / "own.yaml").write_text("extends: science\ntrain: {num_steps: 7}\nseed: 4\n")
    params = load(workspace, "extends: lab/slow.yaml\nseed: 5\n")
    assert (params.campaign, params.seed) == ("unit-algebra", 5)
    assert (params.train.num_steps, params.train.learning_rate) == (7, 1e-5)


def test_lists_and_null_take_the_place_of_what_was_there(workspace: Workspace) -> None:
    text = (
        "extends: default\nproblems: {generalisation: null}\n"
        "base:\n  phases:\n    - {num_steps: 60, correction_fraction: 1}\n"
    )
    params = load(workspace, text)
    assert params.problems.generalisation is None
    assert [phase.num_steps for phase in params.base.phases] == [60]
    assert params.base.batch_size == 128


def test_margins_are_one_value(workspace: Workspace) -> None:
    text = "extends: default\nevaluate: {num_samples: 4}\ngate: {margins: {pass_at_4: 0.1}}\n"
    params = load(workspace, text)
    assert params.gate.margins == {"pass_at_4": 0.1}
    assert params.gate.on_regression == "keep"


def test_another_component_has_nothing_of_the_former_ones_options(workspace: Workspace) -> None:
    text = "extends: default\ntrain: {objective: {name: grpo}}\n"
    assert load(workspace, text).train.objective.options == {}
    same = "extends: default\ntrain: {objective: {options: {weight: 0.5}}}\n"
    assert load(workspace, same).train.objective.options["cost"] == "kl_divergence"
    assert load(workspace, same).train.objective.options["weight"] == 0.5
    named = "extends: default\ntrain: {objective: {name: forward_cross_entropy}}\n"
    assert load(workspace, named).train.objective.options["cost"] == "kl_divergence"


def test_an_option_may_be_called_name(tmp_path: Path) -> None:
    under = {"options": {"name": "a", "size": 1}, "name": "x"}
    assert merged(under, {"options": {"name": "b"}}, "train.objective")["options"] == {
        "name": "b",
        "size": 1,
    }


def test_another_source_leaves_the_harder_problems_of_the_former_one(workspace: Workspace) -> None:
    text = (
        "extends: default\nproblems: {source: {name: unit_algebra, "
        "options: {num_operations: 2, demonstrator_slip_probability: 0.8}}}\n"
        "consult: {verifier: {name: unit_algebra}}\n"
    )
    params = load(workspace, text)
    assert params.problems.generalisation is None
    assert params.problems.num_train == 6144


def test_another_kind_of_base_has_nothing_of_the_former_ones(workspace: Workspace) -> None:
    text = "extends: default\nbase: {kind: pretrained, path_or_id: some/model}\n"
    assert load(workspace, text).base.path_or_id == "some/model"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("extends: defualt", r"params\.yaml: extends: no preset 'defualt', did you mean default"),
        ("extends: nowhere.yaml", r"params\.yaml: extends: no file nowhere\.yaml in "),
        ("extends: parans.yaml", r"no file parans\.yaml in .*did you mean params\.yaml"),
        ("extends: [default]", r"extends: expected the name of a preset .*found \['default'\]"),
        ("extends: null", r"extends: expected the name of a preset"),
        ("extends: params.yaml", r"extends itself \(params\.yaml → params\.yaml\)"),
        ("extends: default\ntrain: {num_step: 5}", r"^params\.yaml: train\.num_step: no such"),
    ],
)
def test_what_cannot_be_extended(workspace: Workspace, text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        load(workspace, text)


def test_a_circle_of_files(workspace: Workspace) -> None:
    (workspace.root / "a.yaml").write_text("extends: b.yaml\n")
    (workspace.root / "b.yaml").write_text("extends: a.yaml\n")
    with pytest.raises(ConfigError, match=r"a\.yaml: extends itself \(params.*b\.yaml → a\.yaml\)"):
        load(workspace, "extends: a.yaml\n")


def test_a_message_names_the_file_that_a_value_is_from(workspace: Workspace) -> None:
    (workspace.root / "own.yaml").write_text("extends: default\ntrain: {learning_rate: fast}\n")
    with pytest.raises(ConfigError) as raised:
        load(workspace, "extends: own.yaml\nseed: x\n")
    assert str(raised.value) == (
        "params.yaml: seed: expected a whole number, found 'x'; train.learning_rate: expected a "
        "number, found 'fast' (train.learning_rate is from own.yaml)"
    )
    with pytest.raises(
        ConfigError,
        match=r"sample\.num_prompts 384 exceeds problems\.num_train 9: .*"
        r"\(sample\.num_prompts is from preset default\)",
    ):
        load(workspace, "extends: default\nproblems: {num_train: 9}\n")


trees = st.recursive(
    st.integers() | st.none() | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
mappings = st.dictionaries(st.sampled_from("abc"), trees, max_size=3)


@given(mappings, mappings)
@hypothesis_settings(deadline=None, max_examples=200, derandomize=True)
def test_merging(under: dict[str, Any], over: dict[str, Any]) -> None:
    assert merged(under, {}) == under
    assert merged({}, over) == over
    assert merged(under, under) == under
    assert merged(merged(under, over), over) == merged(under, over)
    for key, value in over.items():
        if not isinstance(value, dict):
            assert merged(under, over)[key] == value


def test_reading_a_file_changes_no_preset(workspace: Workspace) -> None:
    workspace.params_file.write_text("extends: default\ntrain: {num_steps: 5}\n")
    read_settings(workspace.params_file, "params.yaml")
    assert presets()["default"].read_bytes() == (PROJECT / "params.yaml").read_bytes()
    assert WHOLE == ("gate.margins",)
