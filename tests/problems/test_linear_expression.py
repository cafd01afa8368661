"""Expressions fitted to examples: references against Python, the demonstrator, the oracle (3 s)."""

import json
import re
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distil_core.errors import ConfigError
from distil_core.problems import PROBLEM_SOURCES
from distil_core.problems.base import Problem, SupervisedSource
from distil_core.problems.linear_expression import (
    LinearExpressions,
    Options,
    changes,
    example_inputs,
    expression,
    outputs,
    variables,
)


def source(slip: float = 0.7, num_variables: int = 3) -> LinearExpressions:
    return LinearExpressions(
        Options(num_variables=num_variables, demonstrator_slip_probability=slip)
    )


def yields(text: str, names: str, values: tuple[int, ...]) -> int:
    """What Python makes of an expression of this source's own."""
    assert re.fullmatch(r"\d([+-]\d\*[xyzw])*", text)
    return int(eval(text, {"__builtins__": {}}, dict(zip(names, values, strict=True))))


seeds = st.integers(0, 2**32)


def test_a_known_problem() -> None:
    assert (variables("4y7x6z9="), outputs("4y7x6z9="), changes("4y7x6z9=")) == (
        "yxz",
        [4, 7, 6, 9],
        [3, -1, 3],
    )
    assert expression(4, [3, -1, 3], "yxz") == "4+3*y-1*x+3*z"
    assert example_inputs(3) == [(0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 1, 1)]


@pytest.mark.parametrize("num_variables", [1, 3, 4])
def test_the_reference_yields_what_examples_and_hidden_tests_say(num_variables: int) -> None:
    for problem in islice(source(num_variables=num_variables).problems("train", 3), 200):
        names = variables(problem.prompt)
        assert sorted(names) == sorted("xyzw"[:num_variables])
        shown = zip(example_inputs(num_variables), outputs(problem.prompt), strict=True)
        for values, expected in shown:
            assert yields(problem.reference, names, values) == expected
        hidden = json.loads(problem.metadata)["hidden_tests"]
        assert len(hidden) == 4
        for test in hidden:
            assert yields(problem.reference, names, tuple(test["inputs"])) == test["output"]
        assert set(problem.prompt + problem.reference) <= set(source().alphabet())


def test_hidden_tests_tell_apart_what_the_examples_do_not() -> None:
    """An expression that only repeats the examples, such as a table of them, is found out."""
    found = 0
    for problem in islice(source().problems("train", 1), 200):
        hidden = json.loads(problem.metadata)["hidden_tests"]
        assert any(abs(value) > 1 for test in hidden for value in test["inputs"])
        found += any(test["output"] not in outputs(problem.prompt) for test in hidden)
    assert found > 190


def test_the_stream_depends_on_seed_and_split_only() -> None:
    def first(split: str, seed: int, count: int = 50) -> list[Problem]:
        return list(islice(source().problems(split, seed), count))

    assert first("train", 1) == first("train", 1)
    assert first("train", 1, 20) == first("train", 1)[:20]
    assert first("train", 1) != first("train", 2)
    assert first("train", 1) != first("eval", 1)


def layout(text: str) -> str:
    return re.sub(r"[+-]", "s", re.sub(r"\d", "d", text))


def asked_after(problem: Problem, text: str, num_terms: int) -> int:
    """What the next term has to add, by running the first ones of `text` on the example before."""
    names, first = variables(problem.prompt), text[: 1 + 4 * num_terms]
    stands = yields(first, names, example_inputs(len(names))[num_terms])
    return max(-9, min(9, outputs(problem.prompt)[num_terms + 1] - stands))


@given(seeds)
def test_demonstrations_slip_only_in_terms_that_lower_the_value(seed: int) -> None:
    problem = next(source().problems("train", seed))

    def said(slip: float) -> str:
        return source(slip).demonstration(problem, np.random.default_rng(seed))

    assert said(0.0) == problem.reference
    for slip in (0.5, 1.0):
        text = said(slip)
        assert layout(text) == layout(problem.reference)
        for index, term in enumerate(re.findall(r"[+-]\d", text)):
            asked = asked_after(problem, text, index)
            slipped = max(-9, asked - 1) if asked < 0 else asked
            assert int(term) in ({slipped} if slip == 1.0 else {asked, slipped})


def test_demonstrations_slip_as_often_as_they_should() -> None:
    problem = Problem("6x4=", "6-2*x")
    random = np.random.default_rng(0)
    said = [source(0.7).demonstration(problem, random) for _ in range(4000)]
    assert set(said) == {"6-2*x", "6-3*x"}
    assert said.count("6-3*x") / 4000 == pytest.approx(0.7, abs=0.03)


def test_corrupted_attempts_are_such_as_students_make() -> None:
    problem = Problem("4y7x6z9=", "4+3*y-1*x+3*z")
    random = np.random.default_rng(0)
    made = [source().corrupted_attempt(problem, random) for _ in range(4000)]
    whole = [attempt for attempt in made if re.fullmatch(r"\d([+-]\d\*[xyz]){3}", attempt)]
    assert len(whole) / 4000 == pytest.approx(15 / 16, abs=0.02)
    assert {len(attempt) for attempt in made} == {*range(14), 15}
    right = ["4", "+3", "-1", "+3"]
    found = np.array([re.findall(r"[+-]?\d", attempt) for attempt in whole])
    wrong = found != np.array(right)
    assert wrong.mean(axis=0).min() > 0.1, "errors at every place"
    assert 0.1 < (~wrong.any(axis=1)).mean() < 0.4


@given(seeds)
def test_the_oracle_follows_from_what_the_attempts_own_terms_yield(seed: int) -> None:
    problem = next(source().problems("train", seed))
    attempt = source().corrupted_attempt(problem, np.random.default_rng(seed))
    said = source().oracle_characters(problem, attempt)
    assert problem.reference.startswith(said[0])
    assert layout(said) == layout(problem.reference)[: len(said)]
    for index, term in enumerate(re.findall(r"[+-]\d(?=\*.)", said)):
        if re.fullmatch(r"\d([+-]\d\*[xyz])*", attempt[: 1 + 4 * index]):
            assert int(term) == asked_after(problem, attempt, index)


@given(seeds, st.text("0123456789+-*xyz(", max_size=16))
def test_the_oracle_keeps_the_contract(seed: int, attempt: str) -> None:
    """One character for each of the attempt's and one more, up to the solution's end."""
    problem = next(source().problems("train", seed))
    said = source().oracle_characters(problem, attempt)
    assert len(said) == min(len(attempt) + 1, len(problem.reference))
    assert (said == attempt) == (attempt == problem.reference)


@given(seeds, seeds)
def test_nothing_depends_on_what_comes_later(seed: int, other: int) -> None:
    problem = next(source().problems("train", seed))
    attempt = source().corrupted_attempt(problem, np.random.default_rng(other))
    whole = source().oracle_characters(problem, attempt)
    for end in range(len(attempt)):
        assert whole.startswith(source().oracle_characters(problem, attempt[:end]))


def test_a_term_that_is_none_counts_as_what_it_should_have_been() -> None:
    problem = Problem("4y7x6z9=", "4+3*y-1*x+3*z")
    for attempt in ("4+3*y-1*x+3*z", "4+2*z-1*x+3*z", "4*2*y-1*x+3*z", "(+3*y-1*x+3*z"):
        assert source().oracle_characters(problem, attempt) == problem.reference
    assert source().oracle_characters(problem, "4+2*y-1*x+3*z") == "4+3*y+0*x+4*z"


def test_it_can_make_supervised_text() -> None:
    assert isinstance(source(), SupervisedSource)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"num_variables": 0}, "num_variables: "),
        ({"num_variables": 5}, "num_variables: .*4"),
        ({"demonstrator_slip_probability": -0.5}, "demonstrator_slip_probability: "),
    ],
)
def test_impossible_options(options: dict[str, float], expected: str) -> None:
    possible = {"num_variables": 3, "demonstrator_slip_probability": 0.5}
    PROBLEM_SOURCES.options("linear_expression", possible)
    with pytest.raises(ConfigError, match=expected):
        PROBLEM_SOURCES.options("linear_expression", possible | options)
