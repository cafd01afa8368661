"""Unit algebra: the units against their definitions, the reference, and the oracle's rule (3 s)."""

from fractions import Fraction
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distil_core.errors import ConfigError
from distil_core.problems import PROBLEM_SOURCES
from distil_core.problems.base import Problem, SupervisedSource
from distil_core.problems.unit_algebra import (
    CELLS,
    MAX_EXPONENT,
    UNITS,
    Options,
    UnitAlgebra,
    factors,
    re_executed,
    solution,
)

EXPONENTS = {cell: exponent for exponent, cell in CELLS.items()}

# The SI Brochure's "expressed in other SI units", one level up at a time.
DEFINITIONS = {
    "Hz": "s^-1",
    "N": "kg m s^-2",
    "Pa": "N m^-2",
    "J": "N m",
    "W": "J s^-1",
    "C": "A s",
    "V": "W A^-1",
    "F": "C V^-1",
    "ohm": "V A^-1",
    "S": "A V^-1",
    "Wb": "V s",
    "T": "Wb m^-2",
    "H": "Wb A^-1",
    "Gy": "J kg^-1",
}


def source(slip: float = 0.7, num_operations: int = 3) -> UnitAlgebra:
    return UnitAlgebra(Options(num_operations=num_operations, demonstrator_slip_probability=slip))


def magnitude(unit: str) -> Fraction:
    """The unit's size if kg, m, s and A were 2, 3, 5 and 7 of something: tells exponents apart."""
    sizes = zip((2, 3, 5, 7), UNITS[unit], strict=True)
    return Fraction(np.prod([Fraction(size) ** exponent for size, exponent in sizes]))


def by_magnitudes(prompt: str) -> list[Fraction]:
    """The product after each operation, by multiplying and dividing magnitudes."""
    (_, first), *operations = factors(prompt)
    values = [magnitude(first)]
    for operation, unit in operations:
        other = magnitude(unit)
        values.append(values[-1] * other if operation == "*" else values[-1] / other)
    return values[1:]


def value_of(line: str) -> Fraction:
    sizes = zip((2, 3, 5, 7), line, strict=True)
    return Fraction(np.prod([Fraction(size) ** EXPONENTS[cell] for size, cell in sizes]))


@st.composite
def prompts(draw: st.DrawFn) -> str:
    operations = st.tuples(st.sampled_from("*/"), st.sampled_from(list(UNITS)))
    pairs = draw(st.lists(operations, min_size=1, max_size=3))
    return draw(st.sampled_from(list(UNITS))) + "".join(map("".join, pairs)) + "="


attempts = st.text("".join(EXPONENTS) + " x", max_size=20)


@pytest.mark.parametrize(("unit", "definition"), DEFINITIONS.items())
def test_each_unit_is_what_it_is_defined_as(unit: str, definition: str) -> None:
    total = np.zeros(4, dtype=int)
    for factor in definition.split():
        name, _, exponent = factor.partition("^")
        total += int(exponent or 1) * np.array(UNITS[name])
    assert UNITS[unit] == tuple(total)


def test_known_problems() -> None:
    assert re_executed("V*C/s=", " " * 9) == "12b0 12c0"
    for prompt, unit in (("V*C=", "J"), ("V*A=", "W"), ("Pa*m*m=", "N"), ("ohm*F=", "s")):
        assert solution(prompt)[-1] == UNITS[unit]


@pytest.mark.parametrize("num_operations", [1, 3, 6])
def test_the_reference_is_the_product(num_operations: int) -> None:
    for problem in islice(source(num_operations=num_operations).problems("train", 3), 300):
        lines = problem.reference.split(" ")
        assert len(lines) == num_operations
        assert [value_of(line) for line in lines] == by_magnitudes(problem.prompt)
        assert set(problem.prompt + problem.reference) <= set(source().alphabet())


def test_the_stream_depends_on_seed_and_split_only() -> None:
    def first(split: str, seed: int, count: int = 50) -> list[Problem]:
        return list(islice(source().problems(split, seed), count))

    assert first("train", 1) == first("train", 1)
    assert first("train", 1, 20) == first("train", 1)[:20]
    assert first("train", 1) != first("train", 2)
    assert first("train", 1) != first("eval", 1)


def test_every_unit_and_operation_occurs_about_equally_often() -> None:
    found = [
        pair for p in islice(source().problems("train", 1), 4000) for pair in factors(p.prompt)
    ]
    names, counts = np.unique([unit for _, unit in found], return_counts=True)
    assert set(names) == set(UNITS)
    assert counts.min() > 0.8 * counts.max()


@given(prompts(), attempts)
def test_each_line_follows_from_the_attempts_own_line_before(prompt: str, attempt: str) -> None:
    (_, first), *operations = factors(prompt)
    trace = re_executed(prompt, attempt)
    assert len(trace) == min(len(attempt) + 1, 5 * len(operations) - 1)
    for index, (operation, unit) in enumerate(operations):
        line, expected = trace[5 * index : 5 * index + 4], []
        own = attempt[5 * index - 5 : 5 * index - 1].ljust(4) if index else ""
        derived = trace[5 * index - 5 : 5 * index - 1] if index else ""
        for cell in range(len(line)):
            if not index:
                before = UNITS[first][cell]
            else:
                before = EXPONENTS.get(own[cell], EXPONENTS[derived[cell]])
            after = before + UNITS[unit][cell] * (1 if operation == "*" else -1)
            expected.append(CELLS[max(-MAX_EXPONENT, min(MAX_EXPONENT, after))])
        assert line == "".join(expected)


@given(prompts(), attempts, attempts)
def test_nothing_depends_on_what_comes_later(prompt: str, start: str, rest: str) -> None:
    """So an expert that copies its feedback says nothing that its state does not imply."""
    assert re_executed(prompt, start + rest).startswith(re_executed(prompt, start))


@given(st.integers(0, 2**32))
def test_demonstrations_slip_only_where_a_negative_exponent_is_divided_by(seed: int) -> None:
    problem = next(source().problems("train", seed))

    def demonstrated(slip: float) -> str:
        return source(slip).demonstration(problem, np.random.default_rng(seed))

    assert demonstrated(0.0) == problem.reference
    (_, first), *operations = factors(problem.prompt)
    before = "".join(CELLS[exponent] for exponent in UNITS[first])
    for line, (operation, unit) in zip(demonstrated(1.0).split(" "), operations, strict=True):
        for old, new, change in zip(before, line, UNITS[unit], strict=True):
            moved = change if operation == "*" else -abs(change)
            expected = max(-MAX_EXPONENT, min(MAX_EXPONENT, EXPONENTS[old] + moved))
            assert EXPONENTS[new] == expected
        before = line


def test_demonstrations_slip_as_often_as_they_should() -> None:
    problem = Problem("m/N=", "j")
    random = np.random.default_rng(0)
    said = [source(0.7).demonstration(problem, random) for _ in range(4000)]
    assert set(said) == {"a020", "a0b0"}
    assert said.count("a0b0") / 4000 == pytest.approx(0.7, abs=0.03)


def test_corrupted_attempts_are_such_as_students_make() -> None:
    problem = Problem("V*C/s*m=", "12b0 12c0 13c0")
    random = np.random.default_rng(0)
    made = [source().corrupted_attempt(problem, random) for _ in range(4000)]
    whole = [attempt for attempt in made if len(attempt) == 14]
    assert len(whole) / 4000 == pytest.approx(15 / 16, abs=0.02)
    assert {len(attempt) for attempt in made} == set(range(16))
    wrong_lines = [
        sum(own != right for own, right in zip(w.split(), problem.reference.split(), strict=True))
        for w in whole
    ]
    assert np.bincount(wrong_lines, minlength=4).min() > 300


@given(prompts(), st.integers(0, 2**32))
def test_the_oracle_says_where_an_attempt_departs(prompt: str, seed: int) -> None:
    problem = Problem(prompt, re_executed(prompt, " " * 20))
    attempt = source().corrupted_attempt(problem, np.random.default_rng(seed))
    said = source().oracle_characters(problem, attempt)
    assert (said == attempt) == (attempt == problem.reference)


def test_it_can_make_supervised_text() -> None:
    assert isinstance(source(), SupervisedSource)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"num_operations": 0}, "num_operations: "),
        ({"demonstrator_slip_probability": 1.5}, "demonstrator_slip_probability: "),
    ],
)
def test_impossible_options(options: dict[str, float], expected: str) -> None:
    possible = {"num_operations": 3, "demonstrator_slip_probability": 0.5}
    PROBLEM_SOURCES.options("unit_algebra", possible)
    with pytest.raises(ConfigError, match=expected):
        PROBLEM_SOURCES.options("unit_algebra", possible | options)
