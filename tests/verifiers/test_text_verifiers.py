"""Verifiers of one's own data: exactly this text, a regular expression, another one by field."""

import json
import re
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from distil_core.campaign.load import parse_params
from distil_core.campaign.stage_code import stage_components
from distil_core.errors import ConfigError, VerifierError
from distil_core.pipeline import stage_named
from distil_core.problems.base import Problem
from distil_core.verifiers import VERIFIERS
from distil_core.verifiers.base import Verification

CATASTROPHIC = "(a+)+b"


def judged(
    name: str, options: dict[str, Any], problem: Problem, response: str, reveal: str = "nothing"
) -> Verification:
    with closing(VERIFIERS.build(name, options, reveal=reveal)) as verifier:
        verifier.check_problem(problem)
        found: Verification = verifier.verify(problem, response)
        return found


def verdict(name: str, options: dict[str, Any], reference: str, response: str) -> str:
    return judged(name, options, Problem("?", reference), response).verdict


@pytest.mark.parametrize(
    ("options", "response", "expected"),
    [
        ({}, "New York", "correct"),
        ({}, " New York\n", "correct"),
        ({}, "<think>Boston?</think>New York", "correct"),
        ({}, "New  York", "wrong"),
        ({}, "new york", "wrong"),
        ({}, "New York.", "wrong"),
        ({}, "It is New York", "wrong"),
        ({}, " \n", "malformed"),
        ({"blanks": "exact"}, "New York ", "wrong"),
        ({"blanks": "runs"}, "New \n York", "correct"),
        ({"letter_case": False}, "NEW york", "correct"),
        ({"forms": ["boxed"]}, "So \\boxed{New York}", "correct"),
        ({"forms": ["boxed"]}, "New York", "malformed"),
        ({"forms": ["plain"]}, "Let me think.\nNew York", "correct"),
        ({"forms": ["hash", "answer_tag"]}, "<answer>New York</answer>", "correct"),
    ],
)
def test_exact_text(options: dict[str, Any], response: str, expected: str) -> None:
    assert verdict("exact_text", options, "New York", response) == expected


def test_marked_references_and_further_answers() -> None:
    forms = {"forms": ["hash", "boxed"]}
    assert verdict("exact_text", forms, "Worked out.\n#### yes", "\\boxed{yes}") == "correct"
    problem = Problem("?", "USA", json.dumps({"also": ["United States"]}))
    also = {"also_field": "also"}
    assert judged("exact_text", also, problem, "United States").reward == 1
    assert judged("exact_text", also, Problem("?", "USA"), "United States").reward == 0
    broken = Problem("?", "USA", json.dumps({"also": "United States"}))
    with pytest.raises(VerifierError, match="expected a list of texts in the metadata's 'also'"):
        judged("exact_text", also, broken, "USA")
    with pytest.raises(VerifierError, match="found blanks"):
        judged("exact_text", {}, Problem("?", " "), "USA")


def test_feedback_of_exact_text() -> None:
    problem = Problem("?", "Paris")
    lines = {
        reveal: [item.text for item in judged("exact_text", {}, problem, "paris", reveal).feedback]
        for reveal in ("nothing", "expected_outputs")
    }
    said = "The answer 'paris' is wrong. It differs from the right one only in letter case or"
    assert lines["nothing"] == [f"{said} blanks."]
    assert lines["expected_outputs"] == [f"{said} blanks. The right answer is 'Paris'."]


@given(st.text(min_size=1).filter(str.strip), st.text())
@limits(max_examples=200, deadline=None)
def test_a_text_equals_itself_and_only_what_counts_as_the_same(reference: str, other: str) -> None:
    problem = Problem("?", reference)
    with closing(VERIFIERS.build("exact_text", {"blanks": "exact"}, reveal="nothing")) as verifier:
        own = verifier.verify(problem, reference)
        theirs = verifier.verify(problem, other)
    if "<" not in reference and "[" not in reference:
        assert own.verdict == "correct"
    if own.answer is not None and theirs.answer is not None:
        assert (own.answer == theirs.answer) == (own.verdict == theirs.verdict)


@pytest.mark.parametrize(
    ("options", "reference", "response", "expected"),
    [
        # The reference is the pattern.
        ({}, r"\d{4}-\d{2}-\d{2}", "1815-06-18", "correct"),
        ({}, r"\d{4}-\d{2}-\d{2}", "on 1815-06-18", "wrong"),
        ({}, "cat|cats", "cats", "correct"),
        ({"anchoring": "anywhere"}, r"\d{4}", "on 1815-06-18", "correct"),
        ({"anchoring": "anywhere"}, r"\b18\b", "180", "wrong"),
        ({"anchoring": "start"}, "yes", "yes, since", "correct"),
        ({"anchoring": "start"}, "yes", "oh yes", "wrong"),
        ({"flags": ["ignore_case"]}, "yes|no", "YES", "correct"),
        ({}, "a.b", "a\nb", "wrong"),
        ({"flags": ["dot_all"]}, "a.b", "a\nb", "correct"),
        ({"flags": ["verbose"]}, "a  b # two letters", "ab", "correct"),
        ({"anchoring": "anywhere"}, "^b$", "a\nb\nc", "wrong"),
        ({"anchoring": "anywhere", "flags": ["multi_line"]}, "^b$", "a\nb\nc", "correct"),
        ({}, r"\d", "\u0663", "correct"),
        ({"flags": ["ascii"]}, r"\d", "\u0663", "wrong"),
        ({}, "x", "", "malformed"),
        # One for all, with the answer in a group.
        ({"pattern": "Answer: (?P<answer>.+)"}, "a+b", "Answer: a+b ", "correct"),
        ({"pattern": "Answer: (?P<answer>.+)"}, "a+b", "Answer: aab", "wrong"),
        ({"pattern": "Answer: (?P<answer>.+)"}, "a+b", "a+b", "malformed"),
        ({"pattern": "[ab]+"}, "not read", "abba", "correct"),
    ],
)
def test_regular_expression(
    options: dict[str, Any], reference: str, response: str, expected: str
) -> None:
    assert verdict("regular_expression", options, reference, response) == expected


def test_a_pattern_that_takes_for_ever_is_stopped_and_the_next_text_judged() -> None:
    problem = Problem("?", CATASTROPHIC)
    options = {"cpu_limit_s": 0.2}
    with closing(VERIFIERS.build("regular_expression", options, reveal="nothing")) as verifier:
        stopped = verifier.verify(problem, "a" * 60)
        assert (stopped.verdict, stopped.reward) == ("malformed", 0)
        assert stopped.feedback[0].text == "The response cannot be matched within 0.2 s."
        assert verifier.verify(problem, "aab").verdict == "correct"


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("(", "no regular expression that can be used: missing )"),
        ("a*", "matches the empty text, so that no answer would be right"),
        (" ", "the reference is empty"),
    ],
)
def test_references_that_are_no_patterns(reference: str, message: str) -> None:
    with pytest.raises(VerifierError, match=re.escape(message)):
        judged("regular_expression", {}, Problem("?", reference), "a")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("(?P<answer>", "is no regular expression: "), (".*", "matches the empty text")],
)
def test_patterns_are_refused_when_settings_are_read(pattern: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VERIFIERS.options("regular_expression", {"pattern": pattern})


ROUTES = {
    "field": "kind",
    "verifiers": {
        "text": {"name": "exact_text", "options": {"letter_case": False}},
        "number": {"name": "final_number"},
        "3": {"name": "regular_expression"},
    },
}


def routed(kind: Any, reference: str) -> Problem:
    return Problem("?", reference, json.dumps({"kind": kind}))


def test_each_problem_goes_to_its_own_verifier() -> None:
    for kind, reference, response in (
        ("text", "Paris", "PARIS"),
        ("number", "#### 1,000", "#### 1000"),
        (3, "[ab]+", "abba"),
    ):
        problem = routed(kind, reference)
        assert judged("by_field", ROUTES, problem, response).verdict == "correct"
        assert judged("by_field", ROUTES, problem, "#### 7").verdict != "correct"
    # As its own verifier says it, word for word.
    alone = judged("final_number", {}, routed("number", "#### 5"), "48/2 = 23\n#### 4")
    assert judged("by_field", ROUTES, routed("number", "#### 5"), "48/2 = 23\n#### 4") == alone


def test_a_problem_of_no_kind_is_refused_or_left_to_the_one_for_all_others() -> None:
    for problem, found in ((routed("date", "x"), "has 'date'"), (Problem("?", "x"), "is missing")):
        with pytest.raises(VerifierError, match=f"'kind' of its metadata {found}; expected one of"):
            judged("by_field", ROUTES, problem, "x")
        others = ROUTES | {"otherwise": {"name": "exact_text"}}
        assert judged("by_field", others, problem, "x").verdict == "correct"


def test_wrong_options_inside_are_refused_at_once() -> None:
    with pytest.raises(ConfigError, match=r"unknown verifier 'exact_txt'.*exact_text"):
        VERIFIERS.options(
            "by_field", {"field": "kind", "verifiers": {"text": {"name": "exact_txt"}}}
        )
    with pytest.raises(ConfigError, match="letter_cases"):
        VERIFIERS.options(
            "by_field",
            {
                "field": "kind",
                "verifiers": {"text": {"name": "exact_text", "options": {"letter_cases": True}}},
            },
        )


def test_the_code_of_all_that_it_uses_is_frozen_with_it(settings: dict[str, Any]) -> None:
    nested = {"field": "kind", "verifiers": {"x": {"name": "by_field", "options": ROUTES}}}
    settings["consult"]["verifier"] = {"name": "by_field", "options": nested}
    params = parse_params(settings, "params.yaml")
    found = {
        code.component.name
        for code in stage_components(stage_named("consult"), params)
        if code.component.kind == "verifier"
    }
    assert found == {"by_field", "exact_text", "final_number", "regular_expression"}
