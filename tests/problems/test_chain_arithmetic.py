"""Chain arithmetic: the reference against Python's own arithmetic, and the oracle's rule (3 s)."""

import re
from collections.abc import Callable
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distil_core.errors import ConfigError
from distil_core.problems import PROBLEM_SOURCES
from distil_core.problems.base import Problem, SupervisedSource
from distil_core.problems.chain_arithmetic import ChainArithmetic, Options, re_executed

MODULUS = 7


def source(slip: float = 0.57, num_operations: int = 5, modulus: int = MODULUS) -> ChainArithmetic:
    return ChainArithmetic(
        Options(num_operations=num_operations, modulus=modulus, demonstrator_slip_probability=slip)
    )


def by_python(prompt: str, modulus: int) -> str:
    """The running values by evaluating every prefix of the chain as a Python expression."""
    chain = prompt.removesuffix("=")
    return "".join(str(eval(chain[: end + 1]) % modulus) for end in range(2, len(chain), 2))


@st.composite
def prompts(draw: st.DrawFn, modulus: int = MODULUS) -> str:
    digits = st.integers(0, modulus - 1).map(str)
    steps = draw(st.lists(st.tuples(st.sampled_from("+-"), digits), min_size=1, max_size=8))
    return draw(digits) + "".join(sign + digit for sign, digit in steps) + "="


attempts = st.text("0123456", max_size=10)


@pytest.mark.parametrize(("num_operations", "modulus"), [(5, 7), (1, 2), (12, 10)])
def test_the_reference_is_what_python_says(num_operations: int, modulus: int) -> None:
    stream = source(num_operations=num_operations, modulus=modulus).problems("train", 3)
    for problem in islice(stream, 300):
        assert re.fullmatch(rf"\d([+-]\d){{{num_operations}}}=", problem.prompt)
        assert all(int(digit) < modulus for digit in re.findall(r"\d", problem.prompt))
        assert problem.reference == by_python(problem.prompt, modulus)


def test_a_known_problem() -> None:
    assert by_python("2-2-1-5-1+5=", 7) == "06105"
    first = next(source().problems("train", 0))
    assert (first.prompt, first.reference) == ("2-0+4-6-0+4=", "26004")


def test_the_stream_depends_on_seed_and_split_only() -> None:
    def first(split: str, seed: int, count: int = 50) -> list[Problem]:
        return list(islice(source().problems(split, seed), count))

    assert first("train", 1) == first("train", 1)
    assert first("train", 1, 20) == first("train", 1)[:20]
    assert first("train", 1) != first("train", 2)
    assert first("train", 1) != first("eval", 1)


def test_all_chains_are_about_equally_likely() -> None:
    stream = source(num_operations=1, modulus=2).problems("train", 1)
    counts = np.unique([p.prompt for p in islice(stream, 8000)], return_counts=True)[1]
    assert len(counts) == 8
    assert (((counts - 1000) ** 2) / 1000).sum() < 26  # chi-square, 7 degrees, p = 0.0005


@given(prompts())
def test_the_reference_re_executes_to_itself(prompt: str) -> None:
    reference = by_python(prompt, MODULUS)
    assert re_executed(prompt, reference, MODULUS) == reference


@given(prompts(), attempts)
def test_each_value_follows_from_the_attempts_own_line_before(prompt: str, attempt: str) -> None:
    values = re_executed(prompt, attempt, MODULUS)
    steps = re.findall(r"[+-]\d", prompt)
    assert len(values) == min(len(attempt) + 1, len(steps))
    for index, value in enumerate(values):
        before = attempt[index - 1] if index else prompt[0]
        assert int(value) == eval(before + steps[index]) % MODULUS


@given(prompts(), st.data())
def test_a_changed_line_changes_the_next_value_only(prompt: str, data: st.DataObject) -> None:
    reference = by_python(prompt, MODULUS)
    index = data.draw(st.integers(0, len(reference) - 1))
    line = data.draw(st.sampled_from([d for d in "0123456" if d != reference[index]]))
    attempt = reference[:index] + line + reference[index + 1 :]
    values = re_executed(prompt, attempt, MODULUS)
    assert [i for i in range(len(values)) if values[i] != reference[i]] == (
        [index + 1] if index + 1 < len(reference) else []
    )


@given(prompts(), st.text(max_size=12))
def test_a_line_that_is_no_digit_counts_as_what_it_should_have_been(
    prompt: str, attempt: str
) -> None:
    values = re_executed(prompt, attempt, MODULUS)
    mended = "".join(
        line if line in set("0123456") else value
        for line, value in zip(attempt, values, strict=False)
    )
    assert values == re_executed(prompt, mended, MODULUS)[: len(values)]


@given(prompts(), attempts, attempts)
def test_no_value_depends_on_lines_that_come_later(prompt: str, start: str, rest: str) -> None:
    """So an expert that copies its feedback says nothing that its state does not imply."""
    values = re_executed(prompt, start + rest, MODULUS)
    assert values.startswith(re_executed(prompt, start, MODULUS))


@given(prompts(), st.integers(0, 2**32))
def test_demonstrations_slip_only_where_a_step_passes_zero(prompt: str, seed: int) -> None:
    problem = Problem(prompt, by_python(prompt, MODULUS))

    def demonstrated(slip: float) -> str:
        return source(slip).demonstration(problem, np.random.default_rng(seed))

    assert demonstrated(0.0) == problem.reference
    for slip in (0.57, 1.0):
        before = prompt[0]
        for line, step in zip(demonstrated(slip), re.findall(r"[+-]\d", prompt), strict=True):
            exact = eval(before + step)
            if 0 <= exact < MODULUS:
                assert int(line) == exact
            else:
                assert int(line) in {(exact + (slip == 1.0)) % MODULUS, (exact + 1) % MODULUS}
            before = line


def test_demonstrations_slip_as_often_as_they_should() -> None:
    problem = Problem("6+1=", "0")
    random = np.random.default_rng(0)
    slips = sum(source(0.57).demonstration(problem, random) == "1" for _ in range(4000))
    assert slips / 4000 == pytest.approx(0.57, abs=0.03)


def test_corrupted_attempts_are_such_as_students_make() -> None:
    problem = Problem("2-2-1-5-1+5=", "06105")
    random = np.random.default_rng(0)
    made = [source().corrupted_attempt(problem, random) for _ in range(6000)]
    assert {digit for attempt in made for digit in attempt} == set("0123456")
    lengths = np.array([len(attempt) for attempt in made])
    assert set(lengths.tolist()) == {0, 1, 2, 3, 4, 5, 6}
    # Cut at the slip, which in one of six cases is past the end: nothing is cut then.
    assert (lengths == 6).mean() == pytest.approx(1 / 32, abs=0.01)
    assert (lengths < 5).mean() == pytest.approx(1 / 32 * 5 / 6, abs=0.01)
    first_wrong = [
        next((i for i, (a, b) in enumerate(zip(x, "06105", strict=False)) if a != b), 5)
        for x in made
    ]
    assert np.bincount(first_wrong, minlength=6).min() > 300, "errors begin at every line"


@given(prompts(), st.text("0123456x", max_size=10))
def test_the_oracle_keeps_the_contract(prompt: str, attempt: str) -> None:
    """One character for each of the attempt's and one more, up to the solution's end."""
    reference = by_python(prompt, MODULUS)
    said = source().oracle_characters(Problem(prompt, reference), attempt)
    assert len(said) == min(len(attempt) + 1, len(reference))


def test_it_can_make_supervised_text() -> None:
    assert isinstance(source(), SupervisedSource)
    assert set(source().alphabet()) >= set("0123456789+-=")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"num_operations": 0}, "num_operations: "),
        ({"modulus": 11}, "modulus: .*10"),
        ({"modulus": 1}, "modulus: .*2"),
        ({"demonstrator_slip_probability": 1.5}, "demonstrator_slip_probability: "),
    ],
)
def test_impossible_options(options: dict[str, float], expected: str) -> None:
    possible = {"num_operations": 5, "modulus": 7, "demonstrator_slip_probability": 0.5}
    build: Callable[..., object] = PROBLEM_SOURCES.options
    build("chain_arithmetic", possible)
    with pytest.raises(ConfigError, match=expected):
        build("chain_arithmetic", possible | options)


@pytest.mark.parametrize("modulus", [2, 3, 7, 10])
def test_every_step_of_a_hard_chain_passes_zero(modulus: int) -> None:
    options = Options(
        num_operations=5,
        modulus=modulus,
        demonstrator_slip_probability=1.0,
        every_step_passes_zero=True,
    )
    hard = ChainArithmetic(options)
    random = np.random.default_rng(0)
    for problem in islice(hard.problems("eval", 3), 200):
        assert re.fullmatch(r"\d([+-]\d){5}=", problem.prompt)
        assert problem.reference == by_python(problem.prompt, modulus)
        values = [int(problem.prompt[0]), *map(int, problem.reference)]
        for value, step in zip(values, re.findall(r"[+-]\d", problem.prompt), strict=False):
            assert not 0 <= value + int(step) < modulus
        # A demonstrator who always slips there is wrong on the first line already.
        assert hard.demonstration(problem, random)[0] != problem.reference[0]
