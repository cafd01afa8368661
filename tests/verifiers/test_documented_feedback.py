"""The examples of docs/feedback-tools.md are what the verifiers really say."""

import json
from pathlib import Path
from typing import Any

import pytest

from distil_core.problems.base import Problem
from distil_core.verifiers import VERIFIERS

PAGE = Path(__file__).parents[2] / "docs" / "feedback-tools.md"
OPTIONS = "What is the charge?\n\nA: 50 pC\nB: 56 pC\nC: 60 pC\nD: 64 pC"
SCHEMA = {"name": "get_weather", "parameters": {"properties": {"unit": {"default": "celsius"}}}}
CALL = {"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}


@pytest.mark.parametrize(
    ("name", "options", "problem", "response"),
    [
        (
            "final_number",
            {},
            Problem("?", "#### 72"),
            "48/2 = 23 clips in May.\n23+48 = 71 clips altogether.\n#### 71",
        ),
        (
            "math_answer",
            {},
            Problem("?", r"\boxed{\frac{3}{4}}"),
            r"$\frac{1}{2} + \frac{1}{4} = 1$, so \boxed{\frac{2}{3}}",
        ),
        ("math_answer", {"cpu_limit_s": 1.0}, Problem("?", "2x"), r"\boxed{9^{9^{9^9}}}"),
        (
            "answer_letter",
            {},
            Problem(OPTIONS, "B"),
            "<reasoning>E = kq/r^2</reasoning><answer>C</answer>",
        ),
        (
            "answer_letter",
            {},
            Problem(OPTIONS, "B"),
            "<reasoning>E = kq/r^2</reasoning><answer>B: 56 pC</answer>",
        ),
        ("quantity", {}, Problem("?", "56 pC"), r"\boxed{56\ \mathrm{nC}}"),
        ("quantity", {}, Problem("?", "56 pC"), r"\boxed{56}"),
        ("quantity", {}, Problem("?", "56 pC"), r"\boxed{56 N/C}"),
        (
            "tool_calls",
            {},
            Problem("?", json.dumps(CALL), json.dumps({"tools": [SCHEMA]})),
            '<tool_call>{"name": "get_weather", "arguments": {"city": "London", "days": "3"}}'
            "</tool_call>",
        ),
        (
            "tool_calls",
            {},
            Problem("?", json.dumps(CALL)),
            '<tool_call>{"name": "get_weather", "city": "Paris"}</tool_call>',
        ),
    ],
)
@pytest.mark.parametrize("reveal", ["nothing", "expected_outputs"])
def test_documented_feedback(
    name: str, options: dict[str, Any], problem: Problem, response: str, reveal: str
) -> None:
    page = PAGE.read_text(encoding="utf-8").replace("\n    ", "\n")
    verifier = VERIFIERS.build(name, options, reveal=reveal)
    lines = [item.text for item in verifier.verify(problem, response).feedback]
    verifier.close()
    assert response in page
    assert lines
    for line in lines:
        # With reveal not every example is shown.
        assert line in page or reveal == "expected_outputs", line
