import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distil_core.errors import VerifierError
from distil_core.problems.base import Problem
from distil_core.verifiers import VERIFIERS
from distil_core.verifiers._written_arithmetic import checked_equations
from distil_core.verifiers.base import Verification


def verify(response: str, reference: str = "#### 18", reveal: str = "nothing") -> Verification:
    verifier = VERIFIERS.build("final_number", {}, reveal=reveal)
    return verifier.verify(Problem("How many?", reference), response)


@pytest.mark.parametrize(
    ("response", "verdict"),
    [
        ("9 * 2 = 18\n#### 18", "correct"),
        ("#### $18.00", "correct"),
        (r"so \boxed{18}", "correct"),
        ("#### 17\nNo: #### 18", "correct"),
        ("#### 17", "wrong"),
        ("#### 18\n#### 17", "wrong"),
        ("the answer is 18", "malformed"),
        ("", "malformed"),
        ("#### eighteen", "malformed"),
    ],
)
def test_verdicts(response: str, verdict: str) -> None:
    result = verify(response)
    assert result.verdict == verdict
    assert result.reward == float(verdict == "correct")


def test_feedback_names_each_line_that_does_not_hold_and_no_hidden_answer() -> None:
    result = verify("48 / 2 = 23\n23 + 48 = 71\n#### 71", reference="#### 72")
    assert [item.text for item in result.feedback] == [
        "48 / 2 = 24, not 23",
        "The final answer 71 is wrong.",
    ]


def test_steps_that_hold_are_told_if_asked() -> None:
    problem, response = Problem("?", "#### 72"), "48 / 2 = 24\n24 + 48 = 73\n#### 73"
    asked = VERIFIERS.build("final_number", {"confirm_steps": True}, reveal="nothing")
    assert [item.text for item in asked.verify(problem, response).feedback] == [
        "48 / 2 = 24, as stated",
        "24 + 48 = 72, not 73",
        "The final answer 73 is wrong.",
    ]


def test_the_hidden_answer_is_told_only_where_the_run_says_so() -> None:
    told = verify("#### 71", reference="#### 72", reveal="expected_outputs")
    assert told.feedback[-1].text == "The final answer 71 is wrong; it is 72."
    assert "72" not in verify("#### 71", reference="#### 72").feedback[-1].text


@pytest.mark.parametrize(
    "text",
    [
        "1/2 = 1/2",
        "half of 8 is 8 x 1 1/2 = 12",
        "in 2023 - a year",
        "x = 3",
        "5 / 0 = 7",
        "2**9999999 = 5",
        "10 / 3 = 3.33",
        "(2 + 3) * $1,000 = $5,000",
        "__import__('os') + 1 = 2",
    ],
)
def test_what_holds_or_is_no_plain_equation_is_left_alone(text: str) -> None:
    assert not list(checked_equations(text))


@given(st.integers(0, 9999), st.integers(1, 9999), st.sampled_from("+-*/"), st.integers(1, 99))
def test_a_written_equation_is_judged_exactly(a: int, b: int, sign: str, error: int) -> None:
    value = {"+": Fraction(a + b), "-": Fraction(a - b), "*": Fraction(a * b), "/": Fraction(a, b)}[
        sign
    ]
    if value.denominator == 1:
        assert not list(checked_equations(f"so {a} {sign} {b} = {value} of them"))
        assert len(list(checked_equations(f"so {a} {sign} {b} = {value + error} of them"))) == 1


@pytest.mark.parametrize("reference", ["none", "#### Even n.", "#### 18 or 17", "", "#### 1/0"])
def test_a_reference_without_an_answer_is_no_wrong_answer(reference: str) -> None:
    with pytest.raises(VerifierError, match="holds no '#### number'"):
        verify("#### 1", reference=reference)
    with pytest.raises(VerifierError, match="holds no '#### number'"):
        VERIFIERS.build("final_number", {}, reveal="nothing").check_problem(Problem("?", reference))


@pytest.mark.parametrize(
    "text", ["1+" * 50_000, "1 " * 50_000, "(" * 50_000 + "1+1=3", "9" * 50_000]
)
def test_hostile_text_costs_little(text: str) -> None:
    started = time.process_time()
    list(checked_equations(text))
    verify("####" + text)
    assert time.process_time() - started < 5
