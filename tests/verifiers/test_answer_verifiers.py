"""What holds for every verifier of answers, whatever the response is."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distil_core.problems.base import Problem
from distil_core.verifiers import VERIFIERS
from distil_core.verifiers.base import Verifier

ALL_FORMS = ["hash", "boxed", "answer_tag", "plain"]
CALL = {"name": "find_zyx", "arguments": {"place": "Qwyzz", "count": 73514}}
# Each verifier, a problem, and what of its reference feedback must not hold.
CASES: dict[str, tuple[dict[str, Any], Problem, list[str]]] = {
    "final_number": ({}, Problem("?", "#### 982451653"), [r"982451653"]),
    "math_answer": (
        {"forms": ALL_FORMS, "cpu_limit_s": 1.0},
        Problem("?", r"so \boxed{982451653}"),
        [r"982451653"],
    ),
    "answer_letter": ({"letters": "QXYZ"}, Problem("?", "Q"), [r"\bQ\b"]),
    "quantity": (
        {"forms": ALL_FORMS},
        Problem("?", "7351.25 kN"),
        [r"7351", r"7\.351", r"\bkN\b"],
    ),
    "tool_calls": (
        {},
        Problem("?", json.dumps([CALL]), json.dumps({"tools": [{"name": "find_zyx"}]})),
        [r"find_zyx", r"Qwyzz", r"73514"],
    ),
}
PIECES = [
    *("#### ", "\\boxed{", "}", "<answer>", "</answer>", "<reasoning>", "</reasoning>"),
    *("<tool_call>", "</tool_call>", "{", "[", "]", '"name"', ":", '"arguments"', ",", "\n"),
    *("answer is ", "$", "\\frac{1}{2}", "^", "10", "2", "-3.5", "e8", "1,000", "=", "+", "*"),
    *("/", "(", ")", "%", "m/s", "kN", "°C", "\\mathrm{", "Q", "A", "x", "find_zyx", "null"),
    *("\\text{", "\\sqrt{", "!", "\ud800", "\x00", "é", "\\", "\\pi", "NaN", "true", "|"),
]
RESPONSES = st.one_of(
    st.text(st.characters(), max_size=60),
    st.lists(st.sampled_from(PIECES), max_size=25).map("".join),
    st.lists(st.sampled_from(PIECES), max_size=8).map(lambda pieces: f"#### {''.join(pieces)}"),
    st.lists(st.sampled_from(PIECES), max_size=8).map(
        lambda pieces: f"<reasoning>x</reasoning><answer>{''.join(pieces)}</answer>"
    ),
    st.lists(st.sampled_from(PIECES), max_size=8).map(
        lambda pieces: (
            f'<tool_call>{{"name": "find_zyx", "arguments": {"".join(pieces)}}}</tool_call>'
        )
    ),
)


@pytest.fixture(scope="module")
def verifiers() -> Iterator[dict[str, Verifier]]:
    built = {
        name: VERIFIERS.build(name, options, reveal="nothing")
        for name, (options, _, _) in CASES.items()
    }
    yield built
    for verifier in built.values():
        verifier.close()


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(response=RESPONSES)
def test_any_response_gets_a_storable_verdict_that_is_always_the_same_and_tells_nothing(
    verifiers: dict[str, Verifier], name: str, response: str
) -> None:
    _, problem, secrets = CASES[name]
    result = verifiers[name].verify(problem, response)
    assert result.verdict in ("correct", "wrong", "malformed")
    assert result.reward == float(result.verdict == "correct")
    assert result == verifiers[name].verify(problem, response)
    assert result.verdict == "correct" or result.feedback
    text = "\n".join(item.text for item in result.feedback)
    text.encode("utf-8")
    for secret in secrets:
        # Also as a part of a word: the feedback may take apart what the response wrote as one.
        is_in_response = re.search(secret.replace(r"\b", ""), response)
        assert not re.search(secret, text) or is_in_response, text


@pytest.mark.parametrize("name", CASES)
def test_the_right_answer_is_revealed_where_the_run_says_so(name: str) -> None:
    options, problem, secrets = CASES[name]
    verifier = VERIFIERS.build(name, options, reveal="expected_outputs")
    wrong = {
        "answer_letter": "<reasoning>x</reasoning><answer>X</answer>",
        "quantity": "5 N",
    }.get(name, "#### 5")
    text = "\n".join(item.text for item in verifier.verify(problem, wrong).feedback)
    assert re.search(secrets[0], text), text
    verifier.close()


@pytest.mark.parametrize("name", CASES)
def test_verifiers_in_other_orders_and_objects_agree(name: str) -> None:
    """A pool may give each worker any of the rows in any order."""
    options, problem, _ = CASES[name]
    responses = ["#### 982451653", "5 kN", "7351 kN", "", "<answer>Q</answer>", r"\boxed{x+1}"]
    verdicts = []
    for rows in (responses, responses[::-1]):
        verifier = VERIFIERS.build(name, options, reveal="nothing")
        verdicts.append({row: verifier.verify(problem, row) for row in rows})
        verifier.close()
        verifier.close()
    assert verdicts[0] == verdicts[1]
