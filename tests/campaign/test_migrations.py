"""No upgrade makes an old campaign unreadable: each frozen file that was ever committed here loads,
and means what it meant (5 s, and the libraries' import).

frozen/: `iterations/NNN.yaml` of the commits that their names begin with.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from distil_core.campaign import load_iteration_params
from distil_core.campaign.differences import changes
from distil_core.campaign.iterations import existing_iterations, extend, restart
from distil_core.campaign.listing import read_listing, write_listing
from distil_core.campaign.load import parse_iteration_params
from distil_core.campaign.migrations import migrated
from distil_core.config.models import SCHEMA_VERSION
from distil_core.errors import ConfigError
from distil_core.workspace import Workspace

PROJECT = Path(__file__).parents[2]
FROZEN = sorted((Path(__file__).parent / "frozen").glob("*.yaml"))
STAGES: dict[str, Any] = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]


def read(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return values


def lookup(values: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values


@pytest.mark.parametrize("path", FROZEN, ids=lambda path: path.stem)
@pytest.mark.parametrize("with_components", [True, False])
def test_it_loads_and_means_what_it_meant(path: Path, with_components: bool) -> None:
    values = read(path)
    params = parse_iteration_params(values, path.name, with_components)
    assert params.schema_version == SCHEMA_VERSION
    now = params.model_dump(mode="json")
    differing = changes(values, {key: now[key] for key in values})
    # What a version did not write yet has the value that it meant; what it wrote is unchanged.
    assert all(change.before == "(not set)" for change in differing), differing


def test_before_there_was_a_gate_each_policy_followed_its_parent() -> None:
    path = next(path for path in FROZEN if path.stem == "04edc0b-001")
    assert "gate" not in read(path)
    params = parse_iteration_params(read(path), path.name)
    assert params.gate.on_regression == "continue"
    assert not any(params.gate.alarms.model_dump().values())
    assert params.evaluate.num_expert_samples == 0


@pytest.fixture
def old() -> dict[str, Any]:
    return read(PROJECT / "tests" / "campaign" / "frozen" / "e994687-001.yaml")


def test_settings_that_were_renamed(old: dict[str, Any]) -> None:
    old["train"] |= {"packing": True, "checkpoint_every_s": 5.0}
    del old["train"]["layout"]
    old.pop("resume")
    params = parse_iteration_params(old, "old")
    assert params.train.layout == "packed"
    assert params.resume.checkpoint_every_s == 5.0


@pytest.mark.parametrize("with_components", [True, False])
def test_options_that_were_read_laxly_mean_the_same(
    old: dict[str, Any], with_components: bool
) -> None:
    old["sample"]["engine"]["options"] = {"batch_size": "2048"}
    old["tabulate"]["expert"]["options"] = {"weights": "frozen", "batch_size": "128"}
    params = parse_iteration_params(old, "old", with_components)
    assert params.sample.engine.options == {"batch_size": 2048}
    assert params.tabulate.expert.options == {"weights": "frozen", "batch_size": 128}
    with pytest.raises(ConfigError, match="batch_size: expected a whole number, found '2048'"):
        parse_iteration_params(old | {"schema_version": SCHEMA_VERSION}, "new")


def test_combinations_that_are_refused_today_stay_readable(old: dict[str, Any]) -> None:
    old["train"]["warmup_steps"] = old["train"]["num_steps"] + 1
    assert parse_iteration_params(old, "old").train.warmup_steps == 49


def test_migrating_leaves_the_values_as_they_are(old: dict[str, Any]) -> None:
    old["train"]["checkpoint_every_s"] = 5.0
    before = yaml.safe_dump(old)
    migrated(old, "old")
    assert yaml.safe_dump(old) == before


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, 99])
def test_settings_of_a_newer_version_are_explained(old: dict[str, Any], version: int) -> None:
    with pytest.raises(ConfigError, match=rf"schema_version is {version}.* a newer one froze"):
        parse_iteration_params(old | {"schema_version": version}, "new")


@pytest.mark.parametrize("version", [True, "1", -1])
def test_what_is_no_version(old: dict[str, Any], version: Any) -> None:
    with pytest.raises(ConfigError, match="schema_version: expected a whole number"):
        parse_iteration_params(old | {"schema_version": version}, "new")


def test_no_stage_depends_on_the_version() -> None:
    assert "schema_version" not in yaml.safe_dump(STAGES)


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parent / "listed").glob("*.yaml")), ids=lambda path: path.stem
)
def test_each_list_of_iterations_that_was_ever_committed_is_read(
    tmp_path: Path, path: Path
) -> None:
    workspace = Workspace(tmp_path)
    workspace.iterations_file.write_text(path.read_text())
    assert existing_iterations(workspace) == list(range(7))
    now, committed = read_listing(workspace), yaml.safe_load(path.read_text())
    for section in ("iterations", "evaluations"):
        for key, entry in committed[section].items():
            assert entry.items() <= now[section][key].items()
            assert now[section][key].keys() == _keys_of_now(section)
    write_listing(workspace, now)
    assert yaml.safe_load(workspace.iterations_file.read_text())["schema_version"] == 1
    assert read_listing(workspace) == now


def _keys_of_now(section: str) -> set[str]:
    listed = yaml.safe_load((PROJECT / "iterations.yaml").read_text())[section]
    keys: set[str] = set(listed["001"])
    return keys


@pytest.mark.parametrize("version", [2, "1", True])
def test_a_list_of_a_newer_version_is_explained(tmp_path: Path, version: Any) -> None:
    workspace = Workspace(tmp_path)
    listed = yaml.safe_load((PROJECT / "iterations.yaml").read_text())
    workspace.iterations_file.write_text(yaml.safe_dump(listed | {"schema_version": version}))
    with pytest.raises(ConfigError, match=r"schema_version is .*a newer one wrote it"):
        existing_iterations(workspace)


def test_a_campaign_whose_parts_had_other_options_can_be_extended(tmp_path: Path) -> None:
    """An option that this version does not know is no reason to refuse what is new."""
    workspace = Workspace(tmp_path)
    workspace.params_file.write_text((PROJECT / "params.yaml").read_text())
    workspace.iterations_file.write_text(
        "iterations: {}\nevaluations: {}\ncurves: {loss: {}, cross_entropy: {}, pass_at_k: {}}\n"
    )
    restart(workspace, {"train": 1})
    for number in range(7):
        path = workspace.frozen_params_file(number)
        values = read(path)
        values["sample"]["engine"]["options"]["flash"] = True
        path.write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match="flash: no such setting"):
        load_iteration_params(workspace, 3)
    assert load_iteration_params(workspace, 3, with_components=False).iteration == 3
    assert extend(workspace, {"train": 1}) == [7]
