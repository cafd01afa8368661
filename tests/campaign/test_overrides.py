"""`--set`: single settings from the command line, and how they get into params.yaml (5 s, and the
libraries' import)."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from distil_core.campaign import load_iteration_params, load_params
from distil_core.campaign.extends import read_settings
from distil_core.campaign.iterations import existing_iterations, extend, restart
from distil_core.campaign.overrides import edited, overridden, parse_overrides
from distil_core.campaign.params_file import replaced_params_file
from distil_core.errors import ConfigError
from distil_core.workspace import Workspace

PROJECT = Path(__file__).parents[2]
EMPTY = "iterations: {}\nevaluations: {}\ncurves: {loss: {}, cross_entropy: {}, pass_at_k: {}}\n"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path)
    workspace.iterations_file.write_text(EMPTY)
    workspace.params_file.write_text((PROJECT / "params.yaml").read_text())
    return workspace


def contents(workspace: Workspace) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in workspace.root.rglob("*") if path.is_file()}


def test_what_is_set_is_frozen_and_stays_in_params_yaml(workspace: Workspace) -> None:
    former = workspace.params_file.read_text()
    changes = ["train.learning_rate=1e-5", "num_iterations=1", "base.phases.0.num_steps=700"]
    assert restart(workspace, {}, overrides=changes) == [0, 1]
    frozen = load_iteration_params(workspace, 1)
    assert (frozen.train.learning_rate, frozen.base.phases[0].num_steps) == (1e-5, 700)
    text = workspace.params_file.read_text()
    assert "learning_rate: 1e-05\n" in text
    # All comments are there, and all other lines but one, which the writer joins.
    comments = [line.partition("#")[2] for line in former.splitlines() if "#" in line]
    assert [line.partition("#")[2] for line in text.splitlines() if "#" in line] == comments
    assert len(set(former.splitlines()) - set(text.splitlines())) == 5
    assert replaced_params_file(workspace, former.encode()).read_text() == former
    # A later restart without --set goes on from it.
    before = contents(workspace)
    restart(workspace, {})
    assert contents(workspace) == before


def test_extend_with_another_setting(workspace: Workspace) -> None:
    restart(workspace, {}, overrides=["num_iterations=1"])
    assert extend(workspace, {}, overrides=["train.learning_rate=.002"]) == [2]
    assert extend(workspace, {}) == [3]
    rates = [load_iteration_params(workspace, number).train.learning_rate for number in range(4)]
    assert rates == [0.001, 0.001, 0.002, 0.002]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("train.learning_rat=1", r"train\.learning_rat: no such setting .* did you mean learning_"),
        ("trian.learning_rate=1", r"trian: no such setting .* did you mean train"),
        ("train.objective.options.weigt=1", r"weigt: no such setting .* did you mean weight"),
        ("train.learning_rate.x=1", r"train\.learning_rate: expected a number"),
        ("train.num_steps=true", r"train\.num_steps: expected a whole number, found true"),
        ("train.num_steps='5'", r"found '5': write 5 without quotes .*is from --set"),
        ("train.num_steps", r"--set train\.num_steps: expected a setting and its value"),
        ("=5", r"--set =5: expected a setting and its value"),
        ("train..num_steps=5", r"expected a setting and its value"),
        ("train.num_steps=[", r"--set train\.num_steps=\[: the value is not valid YAML"),
        ("base.phases.1.num_steps=5", r"base\.phases has the places 0 to 0, found 1"),
        ("train.0=5", r"train is no list: expected a setting's name, found 0"),
        ("train.batch_rollouts=130", r"multiple of .*train\.batch_rollouts is from --set"),
        ("extends=science", r"`distil restart --params science` takes"),
    ],
)
def test_what_cannot_be_set_changes_nothing(
    workspace: Workspace, change: str, expected: str
) -> None:
    restart(workspace, {}, overrides=["num_iterations=1"])
    before = contents(workspace)
    for command in (restart, extend):
        with pytest.raises(ConfigError, match=expected):
            command(workspace, {}, overrides=[change])
    assert contents(workspace) == before
    assert existing_iterations(workspace) == [0, 1]


@pytest.mark.parametrize(
    "changes", [["seed=1", "seed=2"], ["train={}", "train.num_steps=1"], ["seed=1", "seed.a=1"]]
)
def test_two_about_one_setting_are_refused(changes: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"set twice|inside of another"):
        parse_overrides([*changes, "train=1"] if "train={}" in changes else changes)


FILES = {
    "all of it": (PROJECT / "params.yaml").read_text(),
    "what differs": "# Mine.\nextends: default\n\ntrain:\n  num_steps: 5 # few\n",
    "another component": (
        "extends: default\ntrain:\n  objective:\n    options: {weight: 0.5} # half\n"
    ),
    "nothing": "extends: science\n",
}
CHANGES = [
    ["train.learning_rate=1e-5"],
    ["train.num_steps=9", "train.warmup_steps=2"],
    ["base.phases.0.num_steps=99"],
    ["base.phases=[{num_steps: 60, correction_fraction: 0.5}]"],
    ["train.objective.name=grpo"],
    ["train.objective.options.clip_low=0.1", "train.objective.name=grpo"],
    ["train.objective.options.weight=0.25"],
    ["gate.margins.pass_at_1=0.5"],
    ["gate.margins={pass_at_2: 0.5}"],
    ["train.lora={rank: 4, alpha: 8, target_modules: [q_proj]}"],
    ["problems.generalisation=null"],
    ["train.num_tables=all"],
    ["gate.alarms.min_entropy_ratio=null"],
    ["base={kind: pretrained, path_or_id: a/b}"],
    ["base.kind=pretrained", "base.path_or_id=a/b"],
    ["context.shorten=[{field: attempt, keep: end}]"],
]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
@pytest.mark.parametrize("text", FILES.values(), ids=FILES)
def test_the_edited_file_means_what_was_set(
    workspace: Workspace, text: str, changes: list[str]
) -> None:
    workspace.params_file.write_text(text)
    resolved = read_settings(workspace.params_file, "params.yaml")
    overlay = parse_overrides(changes)
    expected: dict[str, Any] = overridden(resolved, overlay).values
    written = edited(text, resolved, overlay)
    again = read_settings(workspace.params_file, "params.yaml", written)
    assert again.values == expected
    for comment in ("# Mine.", "# few"):
        assert (comment in written) == (comment in text)
    workspace.params_file.write_text(written)
    load_params(workspace)


def test_a_file_that_takes_the_place_of_params_yaml_still_finds_what_it_extends(
    workspace: Workspace,
) -> None:
    lab = workspace.root / "lab"
    lab.mkdir()
    (lab / "own.yaml").write_text("extends: default\nseed: 3\nnum_iterations: 1\n")
    (lab / "slow.yaml").write_text("extends: own.yaml # mine\ntrain: {num_steps: 5}\n")
    restart(workspace, {}, lab / "slow.yaml")
    assert yaml.safe_load(workspace.params_file.read_text())["extends"] == "lab/own.yaml"
    assert "# mine" in workspace.params_file.read_text()
    assert load_params(workspace).seed == 3
    restart(workspace, {}, Path("science"), ["num_iterations=2"])
    assert load_params(workspace).campaign == "unit-algebra"
    assert existing_iterations(workspace) == [0, 1, 2]
