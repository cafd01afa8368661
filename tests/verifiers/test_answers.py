"""The form of an answer that majority votes go by: equal answers share it, malformed have none."""

import json
from typing import Any

import pytest

from distil_core.problems.base import Problem
from distil_core.verifiers import VERIFIERS

CALLS = json.dumps([{"name": "add", "arguments": {"a": 1, "b": 2}}])
ADD = {"name": "add", "parameters": {"properties": {"b": {"default": 2}}}}
TOOLS = json.dumps({"tools": [ADD]})


def answers(name: str, problem: Problem, responses: list[str], **options: Any) -> list[str | None]:
    verifier = VERIFIERS.build(name, options, reveal="nothing")
    try:
        return [verifier.verify(problem, response).answer for response in responses]
    finally:
        verifier.close()


@pytest.mark.parametrize(
    ("name", "options", "problem", "equal", "other", "malformed"),
    [
        (
            "final_number",
            {},
            Problem("?", "#### 18"),
            ["#### 1,018.50", "so \\boxed{1018.5}"],
            "#### 18",
            "no idea",
        ),
        ("answer_letter", {"format_rule": "bare"}, Problem("?", "A"), ["A", " A\n"], "B", "AB"),
        (
            "math_answer",
            {"check_steps": False},
            Problem("?", "#### 18"),
            ["#### 1,000.50", "#### $1000.5"],
            "\\boxed{\\frac{1}{2}}",
            "none",
        ),
        (
            "quantity",
            {},
            Problem("?", "3 m/s"),
            ["\\boxed{3 m/s}", "\\boxed{10.8 km/h}", "<answer>300 cm/s</answer>"],
            "\\boxed{3 m}",
            "\\boxed{3}",
        ),
        (
            "tool_calls",
            {"call_format": "json"},
            Problem("?", CALLS, TOOLS),
            [CALLS, '[{"arguments": {"b": 2.0, "a": 1}, "name": "add"}]',
             '[{"name": "add", "arguments": {"a": 1.0}}]'],
            '[{"name": "add", "arguments": {"a": "1"}}]',
            "[",
        ),
        (
            "worked_or_direct",
            {"modulus": 7},
            Problem("112=", "w24"),
            ["w24", "d14"],
            "w25",
            "nonsense",
        ),
    ],
)  # fmt: skip
def test_equal_answers_have_one_form(
    name: str,
    options: dict[str, Any],
    problem: Problem,
    equal: list[str],
    other: str,
    malformed: str,
) -> None:
    found = answers(name, problem, [*equal, other, malformed], **options)
    *same, different, none = found
    assert None not in same
    assert len(set(same)) == 1
    assert different not in (None, same[0])
    assert none is None


@pytest.mark.parametrize("ordered", [True, False])
def test_the_order_of_calls_makes_another_answer_where_it_counts(ordered: bool) -> None:
    one, two = {"name": "f", "arguments": {}}, {"name": "g", "arguments": {}}
    responses = [json.dumps([one, two]), json.dumps([two, one])]
    problem = Problem("?", responses[0])
    found = answers("tool_calls", problem, responses, call_format="json", ordered=ordered)
    assert (found[0] == found[1]) is not ordered


def test_verifiers_without_a_form_leave_the_text_as_it_is() -> None:
    assert answers("chain_arithmetic", Problem("1+1=", "2"), ["2"], modulus=7) == [None]
