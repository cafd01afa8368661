"""The calculator: exact, and of bounded cost whatever it is asked."""

import inspect
import sys
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distil_core.tools import TOOLS
from distil_core.tools._exact_arithmetic import CannotCalculate, calculate, written


def answer(expression: str) -> str:
    return TOOLS.build("calculator", {}).call("calculator", {"expression": expression}).text


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("2 + 3 * 4", "14"),
        ("-2 ** 2", "-4"),
        ("2^10", "1024"),
        ("7 // 2 + 7 % 2", "4"),
        ("-7 // 2", "-4"),
        ("1/8", "0.125"),
        ("-1/8", "-0.125"),
        ("0.1 + 0.2", "0.3"),
        ("1/3", "1/3 (about 0.333333333333333)"),
        ("-1/3", "-1/3 (about -0.333333333333333)"),
        ("2 × 3 − 4 ÷ 2", "4"),
        ("1e3 * 2.50", "2500"),
        (".5", "0.5"),
        ("2 ** -2", "0.25"),
        ("9007199254740993 + 0", "9007199254740993"),
        ("(-1) ** (10 ** 300)", "1"),
        ("0 ** 0", "1"),
        ("  (1 +\n 2)", "3"),
    ],
)
def test_values_are_exact(expression: str, expected: str) -> None:
    assert answer(expression) == expected


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("1 / 0", "Division by zero."),
        ("1 % (2 - 2)", "Division by zero."),
        ("0 ** -1", "Division by zero."),
        ("2 ** 0.5", "no exact power"),
        ("1,000 + 1", "without commas"),
        ("9 ** 9 ** 9", "too large"),
        ("2 ** 10 ** 300", "too large"),
        ("1e9999", "too large"),
        ("2 ** 15000", "digits"),
        ("9" * 1000, "too large" if len("9" * 1000) * 3.3 > 20_000 else "digits"),
        ("1+" * 600 + "1", "more than 1000 characters"),
        ("(" * 400 + "1" + ")" * 400, "."),
        ("__import__('os').system('true')", "is no number and no operation"),
        ("'a' * 10 ** 9", "is no decimal number"),
        ("0x10", "is no decimal number"),
        ("True + 1", "is no decimal number"),
        ("1j", "is no decimal number"),
        ("x = 3", "no arithmetic expression"),
        ("", "no arithmetic expression"),
        ("1 +", "no arithmetic expression"),
        ("1\0", "no arithmetic expression"),
        ("1 if 1 else 2", "is no number and no operation"),
        ("[1] * 10", "is no number and no operation"),
        ("1 << 10 ** 9", "is no number and no operation"),
    ],
)
def test_what_has_no_value_is_said(expression: str, reason: str) -> None:
    assert reason in answer(expression)


@pytest.mark.parametrize("limit", [400, 10_000])
def test_how_deep_an_expression_may_go_does_not_depend_on_the_caller(limit: int) -> None:
    before = sys.getrecursionlimit()
    # The calculator's own share, wherever this test itself is called from.
    sys.setrecursionlimit(len(inspect.stack()) + limit)
    try:
        assert answer("1+" * 499 + "1") == "500"
        assert answer("-" * 999 + "1") == "-1"
        assert answer("(" * 400 + "1" + ")" * 400).startswith("This is no arithmetic expression")
    finally:
        sys.setrecursionlimit(before)


EXPRESSIONS = st.recursive(
    st.integers(0, 10**6).map(str) | st.decimals(0, 100, places=3).map(str),
    lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(
        "({0[0]} {0[1]} {0[2]})".format
    ),
    max_leaves=8,
)


@given(EXPRESSIONS)
def test_it_agrees_with_fractions(expression: str) -> None:
    import re

    exact = re.sub(r"\d+(\.\d+)?", lambda number: f"Fraction('{number[0]}')", expression)
    try:
        expected = eval(exact, {"Fraction": Fraction})
    except ZeroDivisionError:
        with pytest.raises(CannotCalculate, match="Division by zero"):
            calculate(expression)
        return
    assert calculate(expression) == expected
    assert Fraction(written(expected).split()[0]) == expected


@given(st.text(max_size=60) | st.text("0123456789.+-*/%()^eE ", max_size=60))
def test_any_text_has_an_answer(text: str) -> None:
    assert answer(text)
