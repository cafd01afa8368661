"""Where settings differ, in words."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distil_core.campaign.differences import changes, described

settings = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab.", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("xy", min_size=1), inner),
    max_leaves=12,
)


@given(settings, settings)
def test_there_is_a_difference_exactly_where_they_are_not_equal(one: Any, other: Any) -> None:
    assert (changes(one, other, "a") == []) == (one == other)
    assert len(changes(one, other, "a")) == len(changes(other, one, "a"))


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, "a.c: 2 → 3"),
        ({"a": [{"n": 1}, {"n": 2}]}, {"a": [{"n": 1}, {"n": 3}]}, "a[1].n: 2 → 3"),
        ({"a": [1]}, {"a": [1, 2]}, "a: [1] → [1, 2]"),
        ({"a": 1}, {}, "a: 1 → (not set)"),
        ({"a": None}, {"a": "x"}, 'a: null → "x"'),
    ],
)
def test_paths(before: Any, after: Any, text: str) -> None:
    assert described(changes(before, after)) == text


def test_long_ones_are_cut() -> None:
    text = described(changes({}, {f"k{i}": "x" * 500 for i in range(20)}))
    assert text.endswith(" and 12 more")
    assert len(text) < 1000
