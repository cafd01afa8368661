"""Nothing in settings becomes something else: each value is what it was written as, or refused
with what to write (5 s, and the libraries' import)."""

import copy
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from pydantic import BaseModel

from distil_core.campaign.load import parse_params
from distil_core.errors import ConfigError
from distil_core.registry import ComponentOptions
from distil_core.validation import validate
from distil_core.verifiers import VERIFIERS

PROJECT = Path(__file__).parents[2]
SETTINGS: dict[str, Any] = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))


def leaves(values: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(values, dict | list):
        for key, value in values.items() if isinstance(values, dict) else enumerate(values):
            yield from leaves(value, (*path, key))
    else:
        yield path, values


LEAVES = list(leaves(SETTINGS))


def with_value(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    settings = copy.deepcopy(SETTINGS)
    here = settings
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = value
    return settings


@pytest.mark.parametrize(("path", "value"), LEAVES, ids=[".".join(map(str, p)) for p, _ in LEAVES])
def test_each_value_of_another_type_is_refused(path: tuple[Any, ...], value: Any) -> None:
    wrong: list[Any] = [None, [value], {"value": value}]
    if isinstance(value, bool):
        wrong += [0, 1, "no", "true", 1.0]
    elif isinstance(value, int | float):
        wrong += [True, False, str(value), f"{value} "]
    else:
        wrong += [1, True]
    wrong += [value + 0.5] if type(value) is int and path[-1] not in FLOATS else []
    for other in wrong:
        if other is None and path[-1] in NULLABLE:
            continue
        with pytest.raises(ConfigError) as raised:
            parse_params(with_value(path, other), "params.yaml")
        assert str(path[-1]) in str(raised.value), (path, other)


NULLABLE = {"min_entropy_ratio", "max_length_ratio"}
FLOATS = {"weight_decay"}


@pytest.mark.parametrize("path", [path for path, value in LEAVES if isinstance(value, float)])
def test_a_whole_number_is_a_number(path: tuple[Any, ...]) -> None:
    """Where 1 is in range, `1` is the same as `1.0`."""
    try:
        given = parse_params(with_value(path, 1.0), "params.yaml")
    except ConfigError:
        with pytest.raises(ConfigError):
            parse_params(with_value(path, 1), "params.yaml")
    else:
        assert parse_params(with_value(path, 1), "params.yaml").train == given.train


def test_a_message_says_the_setting_what_was_expected_and_found_and_what_to_write() -> None:
    settings = copy.deepcopy(SETTINGS)
    settings["train"] |= {"num_steps": True, "batch_rollouts": "128", "num_tables": "1"}
    settings["context"]["chat"] = "no"
    settings["sample"]["num_prompts"] = 384.0
    with pytest.raises(ConfigError) as raised:
        parse_params(settings, "params.yaml")
    assert set(str(raised.value).removeprefix("params.yaml: ").split("; ")) == {
        "train.num_steps: expected a whole number, found true",
        "train.batch_rollouts: expected a whole number, found '128': write 128 without quotes",
        "train.num_tables: expected a whole number or 'all', found '1': write 1 without quotes",
        "context.chat: expected true or false, found 'no': write false",
        "sample.num_prompts: expected a whole number, found 384.0: write 384",
    }


def test_an_unknown_setting_is_told_its_nearest_name() -> None:
    settings = with_value(("train", "learning_rat"), 1.0)
    with pytest.raises(
        ConfigError, match=r"train\.learning_rat: no such setting .* did you mean learning_rate"
    ):
        parse_params(settings, "params.yaml")
    with pytest.raises(ConfigError, match=r"no such setting .*known here: modulus"):
        VERIFIERS.options("chain_arithmetic", {"modulus": 7, "xyz": 7})


class Nested(BaseModel):
    """As a user's package may have it: a plain pydantic model inside of strict options."""

    limit: float


class Options(ComponentOptions):
    """All kinds of values that YAML can hold."""

    places: tuple[int, ...]
    day: date
    folder: Path
    kind: Literal["a", 2]
    rate: float
    nested: Nested
    table: dict[str, tuple[float, ...]]


GOOD = {
    "places": [1, 2],
    "day": "2026-01-31",
    "folder": "data/x",
    "kind": 2,
    "rate": 1,
    "nested": {"limit": 2},
    "table": {"x": [1, 2.5]},
}


def test_lists_dates_and_paths_of_a_users_component_stay_usable() -> None:
    options = validate(Options, GOOD, "here")
    assert options.places == (1, 2)
    assert options.day == validate(Options, GOOD | {"day": date(2026, 1, 31)}, "here").day
    assert options.folder == Path("data/x")
    assert options.table == {"x": (1.0, 2.5)}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("places", "12"),
        ("places", [1, "2"]),
        ("day", 20260131),
        ("day", "tomorrow"),
        ("folder", 3),
        ("kind", "2"),
        ("rate", "1e-3"),
        ("nested", {"limit": "2"}),
        ("table", {"x": [True]}),
        ("table", {1: [1.0]}),
    ],
)
def test_what_they_refuse(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^here: {key}"):
        validate(Options, GOOD | {key: value}, "here")
