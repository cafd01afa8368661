"""docs/settings.md and docs/params.schema.json are what the types say (10 s)."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from distil_core.campaign.load import parse_params
from distil_core.campaign.parts import all_registries
from distil_core.campaign.reference import params_schema, settings_page
from distil_core.campaign.reference.__main__ import written
from distil_core.config.models import Params
from distil_core.errors import ConfigError
from distil_core.yaml_text import parse_yaml

PROJECT = Path(__file__).parents[2]
FILES = [
    PROJECT / "params.yaml",
    *sorted((PROJECT / "presets").glob("*.yaml")),
    *sorted((PROJECT / "examples").rglob("params.yaml")),
]


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = params_schema(built_in=True)
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def settings() -> dict[str, Any]:
    values: dict[str, Any] = parse_yaml((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    return values


def test_the_files_are_up_to_date() -> None:
    for path, text in written(PROJECT / "docs").items():
        remedy = "run `python -m distil_core.campaign.reference`"
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is out of date: {remedy}"


def test_every_setting_and_option_is_on_the_page() -> None:
    page = settings_page(built_in=True)
    for name in Params.model_fields:
        assert f"| `{name}` |" in page
    for registry in all_registries().values():
        for name in registry.place.built_in_names():
            section = page.partition(f"### {registry.kind} `{name}`\n")[2].partition("\n### ")[0]
            assert section, name
            for option in registry.module(name).Options.model_fields:
                assert f"| `{option}` |" in section, (name, option)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PROJECT)))
def test_the_schema_takes_our_own_files(validator: Any, file: Path) -> None:
    values = parse_yaml(file.read_text(encoding="utf-8"))
    assert [error.message for error in validator.iter_errors(values)] == []


def leaves(values: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all values that the schema knows alone: not options of the harder problems, which
    are those of the source."""
    if path == ("problems", "generalisation", "options"):
        return
    if isinstance(values, dict | list):
        for key, value in values.items() if isinstance(values, dict) else enumerate(values):
            yield from leaves(value, (*path, key))
    else:
        yield path


def refusal(values: dict[str, Any]) -> str:
    try:
        parse_params(values, "here")
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("path", list(leaves(settings())), ids=str)
def test_the_schema_refuses_what_settings_refuse(validator: Any, path: tuple[Any, ...]) -> None:
    for wrong in (["x"], {"x": 1}, True, "no", -1.5):
        values = settings()
        here = values
        for key in path[:-1]:
            here = here[key]
        here[path[-1]] = wrong
        refused = refusal(copy.deepcopy(values))
        # Whether settings go together is not the schema's to say.
        if not any(word in refused for word in ("needs", "must", "exceeds")):
            assert validator.is_valid(values) == (not refused), (path, wrong, refused)


@pytest.mark.parametrize(
    ("values", "valid"),
    [
        ({"extends": "default"}, True),
        ({"extends": "lab/base.yaml", "train": {"learning_rate": 1e-4}}, True),
        ({"extends": "default", "train": {"objective": {"options": {"weight": 0.5}}}}, True),
        ({"extends": "default", "train": {"objective": {"name": "grpo"}}}, True),
        ({"extends": "default", "train": {"objective": {"name": "my_lab.own"}}}, True),
        ({"extends": "default", "base": {"kind": "pretrained", "path_or_id": "a/b"}}, True),
        ({"extends": "nothing"}, False),
        ({"extends": "default", "train": {"learning_rat": 1e-4}}, False),
        ({"extends": "default", "train": {"num_steps": "5"}}, False),
        ({"extends": "default", "gate": {"on_regression": "hope"}}, False),
        (
            {"extends": "default", "train": {"objective": {"name": "grpo", "options": {"x": 1}}}},
            False,
        ),
        ({"train": {"learning_rate": 1e-4}}, False),
    ],
    ids=json.dumps,
)
def test_a_file_that_holds_what_differs(
    validator: Any, values: dict[str, Any], valid: bool
) -> None:
    assert validator.is_valid(values) is valid


def test_options_of_an_experts_engine_are_known_too(validator: Any) -> None:
    values = settings()
    engine = {"name": "vllm", "options": {"mode": "in_process", "max_logprobs": 32}}
    values["tabulate"]["expert"]["options"] = {"weights": "frozen", "engine": engine}
    assert validator.is_valid(values)
    engine["options"] = {"mode": "in_process", "max_logprob": 32}
    assert not validator.is_valid(values)
