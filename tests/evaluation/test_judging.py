"""A problem's row: majority against every way to break ties, entropy against its definition."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distil_core.evaluation.judging import JudgedResponse, majority_correct, problem_row
from distil_core.verifiers.base import Verdict


def response(
    text: str, right: str = "1", truncated: bool = False, logprob: float = -1.0
) -> JudgedResponse:
    """Its text is its answer; '-' is none."""
    return JudgedResponse(
        text=text,
        attempt=text,
        num_tokens=len(text) + 1,
        logprob=logprob,
        is_truncated=truncated,
        verdict="correct" if text == right else "malformed" if text == "-" else "wrong",
        answer=None if text == "-" else text,
    )


def by_tie_breaks(texts: list[str], right: str) -> float:
    """The share of orders of the answers in which the first of the most frequent is right."""
    votes = Counter(text for text in texts if text != "-")
    if not votes:
        return 0.0
    wins = [
        max(order, key=lambda answer: votes[answer]) == right
        for order in itertools.permutations(votes)
    ]
    return sum(wins) / len(wins)


@given(st.lists(st.sampled_from("12345-"), min_size=1, max_size=9))
def test_majority_against_every_way_to_break_ties(texts: list[str]) -> None:
    found = majority_correct([response(text) for text in texts])
    assert found == pytest.approx(by_tie_breaks(texts, "1"))


def test_majority_by_hand() -> None:
    def vote(texts: str) -> float:
        return majority_correct([response(text) for text in texts])

    assert (vote("112"), vote("122"), vote("12"), vote("1223"), vote("---")) == (1, 0, 0.5, 0, 0)
    assert vote("1--2") == 0.5
    cut = response("1", truncated=True)
    assert majority_correct([cut, cut, response("2")]) == 0


def test_entropy_is_that_of_the_sampler() -> None:
    """Samples as frequent as their probability: the estimate is the entropy itself."""
    masses = {"a": 0.5, "bc": 0.25, "d": 0.25}
    samples = [
        response(text, logprob=math.log(mass))
        for text, mass in masses.items()
        for _ in range(int(mass * 8))
    ]
    row = problem_row("p", "eval", samples)
    entropy = -sum(mass * math.log(mass) for mass in masses.values())
    assert row.entropy_per_response == pytest.approx(entropy)
    length = sum(mass * (len(text) + 1) for text, mass in masses.items())
    assert row.response_tokens_mean == pytest.approx(length)
    assert row.entropy_per_token == pytest.approx(entropy / length)


def test_the_estimate_is_unbiased() -> None:
    random = np.random.default_rng(0)
    masses = np.array([0.6, 0.3, 0.1])
    drawn = random.choice(3, size=(4000, 4), p=masses)
    estimates = [
        problem_row(
            "p", "eval", [response("a", logprob=math.log(masses[i])) for i in four]
        ).entropy_per_response
        for four in drawn
    ]
    exact = -(masses * np.log(masses)).sum()
    assert np.mean(estimates) == pytest.approx(exact, abs=4 * np.std(estimates) / math.sqrt(4000))


def test_counts() -> None:
    samples = [response("1"), response("1"), response("2", truncated=True), response("-")]
    row = problem_row("p", "eval", samples)
    assert (row.num_correct, row.num_malformed, row.num_truncated) == (2, 1, 1)
    assert (row.num_distinct, row.num_distinct_answers) == (3, 1)
    assert (row.first_response, row.first_verdict) == ("1", "correct")
    truncated_right = problem_row("p", "eval", [response("1", truncated=True)])
    assert (truncated_right.num_correct, truncated_right.first_verdict) == (0, "truncated")


def test_a_verifiers_form_of_the_answer_is_what_is_voted_for() -> None:
    def judged(text: str, answer: str | None, verdict: Verdict = "wrong") -> JudgedResponse:
        return JudgedResponse(text, text, 1, -1.0, False, verdict, answer)

    forms = [judged("a: 18.0", "18", "correct"), judged("b: 18", "18", "correct")]
    others = [judged("c: 1", "1"), judged("d: 2", "2")]
    assert majority_correct([*forms, *others]) == 1.0
    by_text = [judged("a: 18.0", None, "correct"), judged("b: 1", None), judged("b: 1", None)]
    assert majority_correct(by_text) == 0.0
    assert majority_correct([judged("x", None, "malformed")] * 3 + forms[:1]) == 1.0
    assert problem_row("p", "eval", [*forms, *others]).num_distinct_answers == 3
