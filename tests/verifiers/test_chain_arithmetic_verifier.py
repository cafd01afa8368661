"""The strict verifier: one response is right, and what is malformed is not merely wrong (2 s)."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distil_core.config.models import Component, ConsultParams
from distil_core.errors import VerifierError
from distil_core.problems.base import Problem
from distil_core.problems.chain_arithmetic import re_executed
from distil_core.verifiers import build_verifier
from distil_core.verifiers.base import Verifier

PROBLEM = Problem("2-2-1-5-1+5=", "06105")


def verifier(modulus: int = 7, reveal: str = "nothing") -> Verifier:
    component = Component(name="chain_arithmetic", options={"modulus": modulus})
    return build_verifier(ConsultParams(verifier=component, reveal=reveal))


@pytest.mark.parametrize(
    ("response", "verdict"),
    [
        ("06105", "correct"),
        ("06104", "wrong"),
        ("16105", "wrong"),
        ("00000", "wrong"),
        ("", "malformed"),
        ("0610", "malformed"),
        ("061050", "malformed"),
        ("06105 ", "malformed"),
        (" 06105", "malformed"),
        ("06105\n", "malformed"),
        ("0 6 1 0 5", "malformed"),
        ("06175", "malformed"),  # 7 is no value modulo 7
        ("0610x", "malformed"),
        ("-6105", "malformed"),
        ("٠٦١٠٥", "malformed"),  # the same digits in Arabic script
        ("０６１０５", "malformed"),  # and in full width
        ("0610²", "malformed"),
        ("0610\u0305", "malformed"),  # a combining overline
        ("06<|pad|>105", "malformed"),
        ("06105\x00", "malformed"),
        ("0" * 10_000, "malformed"),
    ],
)
def test_only_the_exact_digits_are_right(response: str, verdict: str) -> None:
    verification = verifier().verify(PROBLEM, response)
    assert verification.verdict == verdict
    assert verification.reward == (1.0 if verdict == "correct" else 0.0)


def test_of_all_short_responses_exactly_one_is_right() -> None:
    problem = Problem("2+2-2=", "12")
    verdicts = {
        response: verifier(3).verify(problem, response).verdict
        for length in range(4)
        for response in map("".join, product("0123 ٣", repeat=length))
    }
    assert [response for response, verdict in verdicts.items() if verdict == "correct"] == ["12"]
    wrong = {response for response, verdict in verdicts.items() if verdict == "wrong"}
    assert wrong == set(map("".join, product("012", repeat=2))) - {"12"}


def test_the_feedback_is_the_re_executed_trace() -> None:
    verification = verifier().verify(PROBLEM, "03062")
    assert [(item.kind, item.text) for item in verification.feedback] == [
        ("execution_trace", re_executed(PROBLEM.prompt, "03062", 7))
    ]
    assert verification.feedback[0].text == "06564"


@given(st.text("0123456x", max_size=7), st.sampled_from(["nothing", "expected_outputs"]))
def test_the_trace_holds_only_what_the_attempt_implies(attempt: str, reveal: str) -> None:
    """Nothing of the gold solution beyond the first slip, whatever `reveal` says."""
    problems = [PROBLEM, Problem(PROBLEM.prompt, PROBLEM.reference, '{"other": "metadata"}')]
    traces = {verifier(7, reveal).verify(problem, attempt).feedback[0].text for problem in problems}
    (trace,) = traces
    assert len(trace) == min(len(attempt) + 1, 5)
    for end in range(len(attempt)):
        shorter = verifier().verify(PROBLEM, attempt[:end]).feedback[0].text
        assert trace.startswith(shorter)


@pytest.mark.parametrize("modulus", [5, 8, 10])
def test_problems_of_another_modulus_are_not_judged(modulus: int) -> None:
    with pytest.raises(VerifierError, match=rf"not of modulus {modulus}: consult\.verifier"):
        verifier(modulus).verify(PROBLEM, "06105")


def test_it_keeps_no_state() -> None:
    judge = verifier()
    before = judge.verify(PROBLEM, "06104")
    judge.verify(Problem("1+1=", "2"), "nonsense")
    assert judge.verify(PROBLEM, "06104") == before
