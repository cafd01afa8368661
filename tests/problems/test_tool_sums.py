"""Sums with a calculator: what is asked, what is left of it after actions, who acts how (3 s)."""

import re
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distil_core.errors import ConfigError
from distil_core.problems import PROBLEM_SOURCES
from distil_core.problems.base import Problem
from distil_core.problems.tool_sums import (
    Options,
    Sum,
    ToolSums,
    carries,
    is_answer,
    left_after,
    read_call,
    without_carry,
)
from distil_core.problems.turns import SupervisedTurnSource, TurnSoFar
from distil_core.seeds import generator


def source(slip: float = 0.8, fewest: int = 1, most: int = 3) -> ToolSums:
    return ToolSums(
        Options(min_operations=fewest, max_operations=most, demonstrator_slip_probability=slip)
    )


SOME = list(islice(source().problems("train", 3), 300))
actions = st.one_of(
    st.builds("[{}{}{}]".format, st.integers(-99, 199), st.sampled_from("+-"), st.integers(0, 199)),
    st.text("0123456789+-=", max_size=10),
)


def by_python(prompt: str) -> int:
    return int(eval(re.sub(r"\b0+(?=\d)", "", prompt.removesuffix("="))))


def played(
    problem: Problem, act: str, slip: float, random: np.random.Generator, most: int = 8
) -> list[TurnSoFar]:
    """Turns of the demonstrator or of an unskilled student, answered by Python itself."""
    turns: list[TurnSoFar] = []
    while len(turns) < most:
        action = getattr(source(slip), act)(problem, turns, random)
        call = read_call(action)
        if is_answer(action):
            return [*turns, TurnSoFar(action, "")]
        said = "?" if call is None else f"{eval(f'{call[0]}{call[1]}{call[2]}')}"
        turns.append(TurnSoFar(action, said))
    return turns


@pytest.mark.parametrize(("fewest", "most"), [(1, 3), (2, 2), (5, 9)])
def test_the_reference_is_what_python_says(fewest: int, most: int) -> None:
    lengths = set()
    for problem in islice(source(fewest=fewest, most=most).problems("train", 3), 300):
        assert re.fullmatch(r"\d\d([+-]\d)+=", problem.prompt)
        assert problem.reference == f"{by_python(problem.prompt)}"
        for end in range(2, len(problem.prompt), 2):
            assert 10 <= by_python(problem.prompt[:end]) <= 99, "two digits all along"
        lengths.add((len(problem.prompt) - 3) // 2)
    assert lengths == set(range(fewest, most + 1))


def test_the_stream_depends_on_seed_and_split_only() -> None:
    def first(split: str, seed: int) -> list[Problem]:
        return list(islice(source().problems(split, seed), 50))

    assert first("train", 1) == first("train", 1)
    assert first("train", 1) != first("eval", 1)
    assert first("train", 1) != first("train", 2)


def test_a_known_problem() -> None:
    left = Sum.of("37+8-9=")
    assert left.right_action == "37+8"
    assert left.called("37+8").right_action == "45-9"
    assert left.called("37+8").called("45-9").right_action == "36"
    assert left.called("37-8") == left.called("37+80") == left.called("45") == left
    assert left.called("45-9").right_action == "36", "45 is what the step before leads to"
    assert left.called("35-9") == left, "where the carry was forgotten it is not"


@pytest.mark.parametrize(
    ("action", "answers"),
    [("66", True), ("-66", True), ("", True), ("37+8", False), ("37+", False), ("--", False)],
)
def test_an_action_with_a_sign_after_something_is_meant_as_a_call(
    action: str, answers: bool
) -> None:
    assert is_answer(action) == answers


@given(value=st.integers(0, 99), sign=st.sampled_from("+-"), operand=st.integers(0, 99))
def test_a_step_without_a_carry_can_be_done_digit_by_digit(
    value: int, sign: str, operand: int
) -> None:
    columns = [eval(f"{a}{sign}{b}") for a, b in zip(f"{value:02d}", f"{operand:02d}", strict=True)]
    assert carries(value, sign, operand) == (columns[1] not in range(10))
    found = without_carry(value, sign, operand)
    assert f"{found:02d}" == "".join(str(column % 10) for column in columns)
    if all(column in range(10) for column in columns):
        assert found == eval(f"{value}{sign}{operand}")


@given(problem=st.sampled_from(SOME), done=st.lists(actions, max_size=4))
def test_whatever_was_done_the_right_actions_lead_to_the_reference(
    problem: Problem, done: list[str]
) -> None:
    left, so_far = left_after(problem.prompt, done), list(done)
    while not is_answer(left.right_action):
        so_far.append(left.right_action)
        fewer = left_after(problem.prompt, so_far)
        assert len(fewer.operations) < len(left.operations)
        left = fewer
    assert left.right_action == problem.reference


@given(problem=st.sampled_from(SOME), action=actions, seed=st.integers(0, 99))
def test_the_oracle_says_one_character_more_than_was_written_and_at_most_all(
    problem: Problem, action: str, seed: int
) -> None:
    turns = played(problem, "corrupted_action", 0.8, generator(seed, "test"))[:-1]
    said = source().oracle_action_characters(problem, turns, action)
    right = left_after(problem.prompt, [turn.action for turn in turns]).right_action
    assert said == right[: len(action) + 1]


def test_a_demonstrator_that_never_slips_is_right() -> None:
    for problem in SOME:
        turns = played(problem, "demonstrated_action", 0.0, generator(1, "test"))
        assert turns[-1].action == problem.reference
        right = [
            left_after(problem.prompt, [turn.action for turn in turns[:place]]).right_action
            for place in range(len(turns))
        ]
        assert [turn.action for turn in turns] == right


def test_one_that_always_slips_does_every_last_step_in_its_head() -> None:
    num_wrong = 0
    for problem in SOME:
        turns = played(problem, "demonstrated_action", 1.0, generator(1, "test"))
        left = left_after(problem.prompt, [turn.action for turn in turns[:-1]])
        assert len(left.operations) == 1
        last = (left.value, *left.operations[0])
        assert turns[-1].action == f"{without_carry(*last)}"
        assert (turns[-1].action == problem.reference) != carries(*last)
        num_wrong += carries(*last)
    assert len(SOME) / 2 < num_wrong < len(SOME)


def test_unskilled_students_do_all_kinds_of_things() -> None:
    seen = dict.fromkeys(("right", "wrong call", "wrong answer"), 0)
    for number, problem in enumerate(SOME):
        turns = played(problem, "corrupted_action", 0.8, generator(number, "test"))
        for place, turn in enumerate(turns):
            before = [one.action for one in turns[:place]]
            if turn.action == left_after(problem.prompt, before).right_action:
                seen["right"] += 1
            elif is_answer(turn.action):
                seen["wrong answer"] += 1
            else:
                seen["wrong call"] += 1
    assert min(seen.values()) >= 10, seen


def test_it_demonstrates_turns() -> None:
    options = {"min_operations": 2, "max_operations": 2, "demonstrator_slip_probability": 0.5}
    built = PROBLEM_SOURCES.build("tool_sums", options)
    assert isinstance(built, SupervisedTurnSource)
    with pytest.raises(
        ConfigError, match="min_operations of at most max_operations, found 3 and 2"
    ):
        PROBLEM_SOURCES.build("tool_sums", options | {"min_operations": 3})


@pytest.mark.parametrize("prompt", ["", "37+8", "3+4=", "37*8=", "37+8==", "37+48="])
def test_a_text_that_is_no_sum_is_said(prompt: str) -> None:
    with pytest.raises(ValueError, match="expected a sum such as"):
        Sum.of(prompt)
