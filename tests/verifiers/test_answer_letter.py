"""Multiple choice by letter: the format rules, and what feedback says."""

from typing import Any

import pytest

from distil_core.errors import VerifierError
from distil_core.problems.base import Problem
from distil_core.verifiers import VERIFIERS
from distil_core.verifiers.base import Verification
from tests.verifiers.shared_data import shared_rows

PROMPT = (
    "What is the charge?\n\nA: 50 pC\nB: 56 pC\nC: 60 pC\nD: 64 pC\nPlease reason step by step."
)
SCIKNOWEVAL = (
    "sciknoweval/physics-train.jsonl",
    "sciknoweval/physics-test.jsonl",
    "sciknoweval/chemistry-train.jsonl",
    "sciknoweval/chemistry-test.jsonl",
)


def verify(response: str, reveal: str = "nothing", **options: Any) -> Verification:
    verifier = VERIFIERS.build("answer_letter", options, reveal=reveal)
    result: Verification = verifier.verify(Problem(PROMPT, "B"), response)
    return result


def in_blocks(answer: str) -> str:
    return f"<reasoning>\nE = kq/r^2\n</reasoning>\n<answer>\n{answer}\n</answer>"


def test_the_right_letter_in_the_prescribed_format() -> None:
    assert verify(in_blocks("B")) == Verification(1.0, "correct", (), answer="B")


def test_a_wrong_letter_is_named_with_its_option() -> None:
    result = verify(in_blocks("C"))
    assert (result.reward, result.verdict) == (0.0, "wrong")
    assert [item.text for item in result.feedback] == ["Option C (60 pC) is wrong."]


def test_the_right_option_is_told_only_where_the_run_says_so() -> None:
    assert verify(in_blocks("C"), reveal="expected_outputs").feedback[0].text == (
        "Option C (60 pC) is wrong. The right option is B (56 pC)."
    )


@pytest.mark.parametrize(
    ("response", "message"),
    [
        ("", "The response has no <reasoning>"),
        ("<answer>B</answer>", "The response has no <reasoning>"),
        ("<reasoning>x<answer>B</answer>", "The response has no </reasoning>"),
        ("<reasoning>x</reasoning> B", "The response has no <answer>"),
        (in_blocks("B") + "<answer>B</answer>", "The response has <answer> 2 times"),
        ("<answer>B</answer><reasoning>x</reasoning>", "must come after the <reasoning> block"),
        ("</answer><reasoning>x</reasoning><answer>B", "</answer> stands before <answer>"),
        ("Well. " + in_blocks("B"), "There must be nothing before <reasoning>, found 'Well.'"),
        (in_blocks("B") + " done", "There must be nothing after </answer>, found 'done'"),
        ("<reasoning>x</reasoning>so<answer>B</answer>", "nothing between the two blocks"),
        (in_blocks(""), "The answer is empty"),
        (in_blocks("b"), "The answer is 'b': it must be the letter of an option"),
        (in_blocks("B: 56 pC"), "The answer is 'B: 56 pC'"),
        (in_blocks("A, B"), "The answer is 'A, B'"),
        (in_blocks("E"), "The answer is 'E'"),
    ],
)
def test_each_break_of_the_format_is_malformed_and_named(response: str, message: str) -> None:
    result = verify(response)
    assert (result.reward, result.verdict) == (0.0, "malformed")
    assert message in result.feedback[0].text


@pytest.mark.parametrize(
    ("rule", "response", "verdict"),
    [
        ("answer", "I think so. <answer>B</answer>\n", "correct"),
        ("answer", "<answer>B</answer> I think", "malformed"),
        ("boxed", r"so \boxed{B}.", "correct"),
        ("boxed", r"\boxed{A}, no \boxed{B}", "malformed"),
        ("boxed", r"\boxed{B}. So: \boxed{\text{B}}", "correct"),
        ("boxed", r"\boxed{B} \boxed{}", "malformed"),
        ("boxed", r"\boxed{B} \boxed{", "malformed"),
        ("boxed", r"\boxed{\text{B}}", "correct"),
        ("boxed", r"\boxed {\mathrm{(B)}}", "correct"),
        ("boxed", r"\fbox{\textbf{(\text{C})}}", "wrong"),
        ("boxed", r"\boxed{B, C}", "malformed"),
        ("boxed", r"<think>\boxed{A}?</think> \boxed{B}", "correct"),
        ("boxed", r"<think>\boxed{B}", "malformed"),
        ("answer", "<think>into <answer> tags</think>\n<answer>**B**</answer>", "correct"),
        ("answer", r"<answer>\boxed{B}</answer>", "correct"),
        ("reasoning_and_answer", "<think>hm</think>\n" + in_blocks("(B)"), "correct"),
        ("reasoning_and_answer", in_blocks("(B) or (C)"), "malformed"),
        ("bare", "<think>\n\n</think>\n\nB", "correct"),
        ("bare", "(B)", "correct"),
        ("bare", "\uff08\uff22\uff09", "correct"),
        ("bare", "(" * 40 + "B" + ")" * 40, "correct"),
        ("bare", "(" * 100_000, "malformed"),
        ("bare", " B\n", "correct"),
        ("bare", "C", "wrong"),
        ("bare", "It is B", "malformed"),
    ],
)
def test_other_format_rules(rule: str, response: str, verdict: str) -> None:
    assert verify(response, format_rule=rule).verdict == verdict


def test_references_are_checked_before_anything_is_sampled() -> None:
    verifier = VERIFIERS.build("answer_letter", {}, reveal="nothing")
    verifier.check_problem(Problem(PROMPT, "(B)"))
    for reference in ("", "E", "b", "AB", "56 pC"):
        with pytest.raises(VerifierError, match="must be one of the letters ABCD"):
            verifier.check_problem(Problem(PROMPT, reference))


def test_letters_are_those_of_the_options() -> None:
    assert verify("B", format_rule="bare", letters="ABCDEFGHIJ").verdict == "correct"
    with pytest.raises(VerifierError, match="one of the letters CD"):
        verify("C", format_rule="bare", letters="CD")


def test_every_sciknoweval_answer_is_correct_in_its_own_format() -> None:
    verifier = VERIFIERS.build("answer_letter", {}, reveal="nothing")
    for row in shared_rows(*SCIKNOWEVAL):
        problem = Problem(row["prompt"], row["answer"])
        assert verifier.verify(problem, in_blocks(row["answer"])).reward == 1.0
        other = "ABCD".replace(row["answer"], "")[0]
        result = verifier.verify(problem, in_blocks(other))
        assert result.verdict == "wrong"
        # Each problem's options are found by their letters.
        assert f"Option {other} (" in result.feedback[0].text
