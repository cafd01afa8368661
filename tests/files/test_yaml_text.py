"""YAML is read as DVC reads it, and nothing in it is silently lost (1 s)."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from distil_core.yaml_text import dump_yaml, parse_yaml

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E+3", 1000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", 1000),
        ("1:30", "1:30"),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("~", None),
        ("-.inf", -math.inf),
        ("2026-01-01", "2026-01-01"),
        ("'1e-3'", "1e-3"),
    ],
)
def test_scalars(text: str, value: Any) -> None:
    from dvc.utils.serialize import parse_yaml as parse_as_dvc

    found = parse_yaml(f"key: {text}")["key"]
    assert (type(found), found) == (type(value), value)
    if text != "2026-01-01":  # DVC makes a date of it, which settings know as text.
        assert parse_as_dvc(f"key: {text}\n", "file")["key"] == value


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 1", "x:\n  - {a: 1, 'a': 2}"])
def test_a_key_that_stands_twice_is_refused(text: str) -> None:
    with pytest.raises(yaml.YAMLError, match=r"'a' stands twice .*first in line"):
        parse_yaml(text)


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [*a]",
        "a: &a {b: *a}",
        "a: " + "[" * 3000 + "]" * 3000,
        "a: " + "9" * 5000,
        "a: !!float no",
        "a: 0x_",
        'a: "\\ud800"',
        "? [1]\n: 2",
    ],
    ids=lambda text: text[:16],
)
def test_what_is_no_settings_text_is_an_error_of_yaml(text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        parse_yaml(text)


def test_anchors_and_merges_work() -> None:
    text = "one: &one {a: 1, b: 2}\nother:\n  <<: *one\n  b: 3\n"
    assert parse_yaml(text)["other"] == {"a": 1, "b": 3}


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_characters="\x85", exclude_categories=["Cs"]), max_size=8)
    | st.from_regex(r"[-+]?[0-9_.:]{1,4}([eE][-+]?[0-9]{1,2})?", fullmatch=True)
    | st.sampled_from(
        ["yes", "no", "on", "off", "null", "~", "<<", "=", "0o7", "1_0", "2026-01-01"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab_c"), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text("abc", min_size=1), values, max_size=4))
@hypothesis_settings(deadline=None, max_examples=300, derandomize=True)
def test_what_is_written_is_read_again_here_and_by_a_yaml_1_1_reader(tree: dict[str, Any]) -> None:
    written = dump_yaml(tree)
    assert parse_yaml(written) == tree
    assert yaml.safe_load(written) == tree


def test_this_projects_files_read_as_before() -> None:
    files = [PROJECT / "params.yaml", PROJECT / "iterations.yaml"]
    files += [*(PROJECT / "iterations").glob("*.yaml"), *(PROJECT / "presets").glob("*.yaml")]
    for file in [*files, *(PROJECT / "docs").rglob("*.yaml")]:
        text = file.read_text(encoding="utf-8")
        assert parse_yaml(text) == yaml.safe_load(text), file
