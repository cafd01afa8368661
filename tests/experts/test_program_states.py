"""Which states of a rollout a program is asked about."""

import math

from hypothesis import given
from hypothesis import strategies as st

from distil_core.experts._program_states import Line, chosen, first_wrong_line, lines_of
from distil_core.experts.programs.base import Text


def texts(tokens: list[str]) -> list[str]:
    return ["".join(tokens[:length]) for length in range(len(tokens) + 1)]


def test_lines_begin_at_the_first_state_that_reaches_into_them() -> None:
    # A token may hold a line's end alone, with the beginning of the next line, or two ends.
    tokens = ["a", "b\n", "c", "\nd", "e", "\n\n", "f"]
    assert lines_of(texts(tokens)) == [
        Line(0, 2, "ab\n", False),
        Line(2, 4, "c\n", False),
        Line(4, 6, "e\n", False),
        Line(6, 7, "f", True),
    ]
    # The end token, the last one here, has no text.
    assert lines_of(["", "a\n", "a\n"]) == [Line(0, 1, "a\n", False), Line(1, 2, "", True)]
    assert lines_of([""]) == []


@given(st.lists(st.sampled_from(["a", "b", "\n", "a\n", "\nb", "\n\n"]), min_size=1, max_size=12))
def test_each_state_is_in_one_line(tokens: list[str]) -> None:
    lines = lines_of(texts(tokens))
    assert [state for line in lines for state in range(line.start, line.stop)] == list(
        range(len(tokens))
    )
    for line in lines:
        assert "".join(tokens[line.start :]).startswith(line.rest)
        assert "\n" not in line.rest[:-1]


def test_the_first_wrong_line_is_in_no_text() -> None:
    lines = lines_of(["", "1\n", "1\n2\n", "1\n2\n3", "1\n2\n3"])
    right = {0: [Text("1\n2\n3")], 1: [Text("2\n3")], 2: [Text("3")]}
    assert first_wrong_line(lines, right, True) is None
    wrong = right | {1: [Text("5\n3"), Text("6\n3")]}
    assert first_wrong_line(lines, wrong, True) == lines[1]
    assert first_wrong_line(lines, wrong | {1: [Text("5"), Text("2\n3")]}, True) is None
    # It ended too early, unless it was cut.
    longer = right | {2: [Text("34")]}
    assert first_wrong_line(lines, longer, True) == lines[2]
    assert first_wrong_line(lines, longer, False) is None
    # Nothing said, or no further than known.
    assert first_wrong_line(lines, {0: [], 1: []}, True) is None
    assert first_wrong_line(lines, {0: [Text("", ends=False)]}, True) is None


@given(
    st.lists(st.integers(0, 99), unique=True, max_size=40).map(sorted),
    st.floats(0.01, 1.0),
    st.integers(0, 9),
)
def test_a_share_is_rounded_up_and_the_same_again(
    states: list[int], share: float, seed: int
) -> None:
    kept = chosen(states, share, seed, "001/a/0")
    assert kept == chosen(states, share, seed, "001/a/0")
    assert len(kept) == (len(states) if share == 1.0 else math.ceil(share * len(states)))
    assert kept == sorted(set(kept) & set(states))


def test_rollouts_are_asked_at_states_of_their_own() -> None:
    found = {tuple(chosen(range(40), 0.25, 5, f"001/a/{number}")) for number in range(6)}
    assert len(found) == 6
