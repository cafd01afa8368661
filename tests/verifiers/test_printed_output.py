"""What counts as the output that was to be printed."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distil_core.verifiers._printed_output import same_numbers, same_output


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        *(("0.5", "0.50"), ("1.0", "1"), ("1", "1.000"), ("-0.0", "0"), ("1e3", "1000")),
        *(
            ("0.3333333333333333", "0.333333333"),
            ("0.333333", "0.333333333"),
            ("2e-7", "0.0000002"),
        ),
        *(("0.9999999999", "1"), ("123456789.12", "123456789.1"), ("1e-17", "0.000000")),
        *(("0.1000000001", "0.1"), ("-3.50", "-3.5"), ("+4", "4"), ("5.", "5")),
    ],
)
def test_the_same_number(printed: str, expected: str) -> None:
    assert same_numbers(printed, expected)


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        *(("1000000006.0", "1000000007"), ("1000001", "1000000"), ("1000000.0", "1000001.0")),
        *(("0010", "10"), ("10", "0010"), ("1e5", "1e6"), ("0.5", "0.500002"), ("2e-7", "1e-7")),
        *(("nan", "0"), ("inf", "1e999"), ("0x10", "16"), ("1_000", "1000"), ("1,5", "1.5")),
        *(("0.33", "0.333333333"), ("", "0"), ("YES", "Yes"), ("٣", "3"), ("1e999999999", "1")),
        ("9" * 500, "9" * 500 + ".0"),
        (str(10**20), str(10**20 + 1)),
    ],
)
def test_another_number(printed: str, expected: str) -> None:
    assert not same_numbers(printed, expected)


@given(st.integers(), st.integers(-5, 5))
def test_whole_numbers_are_exact(number: int, more: int) -> None:
    assert same_numbers(str(number + more), str(number)) is (more == 0)
    assert same_numbers(f"{number + more}.0", str(number)) is (more == 0)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_itself_in_any_form(number: float) -> None:
    assert same_numbers(repr(number), repr(number))
    if 1e-3 < abs(number) < 1e15:
        assert same_numbers(f"{number:.12f}", repr(number))
        assert not same_numbers(repr(math.nextafter(number, math.inf) * 1.01), repr(number))


@pytest.mark.parametrize(
    ("printed", "expected", "agreeing"),
    [
        ("Case #1: 0.5\n", "Case #1: 0.50\n", {"lines", "tokens"}),
        ("Case  #1: 0.5\n", "Case #1: 0.5\n", {"tokens"}),
        ("1.0 2\n3", "1 2.00\n3\n", {"lines", "tokens"}),
        ("1 2 3", "1 2", set()),
        ("1 2\n", "1\n2\n", {"tokens"}),
        ("  x", "x", {"tokens"}),
        ("x\r\n", "x\n", {"lines", "tokens"}),
        ("", "\n", {"lines", "tokens"}),
    ],
)
def test_comparisons(printed: str, expected: str, agreeing: set[str]) -> None:
    found = {how for how in ("lines", "tokens", "exact") if same_output(printed, expected, how)}
    assert found == agreeing
