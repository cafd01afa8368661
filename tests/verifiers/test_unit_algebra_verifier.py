"""The verifier of unit algebra: only the exact exponents are right (1 s)."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distil_core.config.models import Component, ConsultParams
from distil_core.errors import VerifierError
from distil_core.problems.base import Problem
from distil_core.problems.unit_algebra import re_executed
from distil_core.verifiers import build_verifier
from distil_core.verifiers.base import Verifier

PROBLEM = Problem("V*C/s=", "12b0 12c0")


def verifier(reveal: str = "nothing") -> Verifier:
    return build_verifier(ConsultParams(verifier=Component(name="unit_algebra"), reveal=reveal))


@pytest.mark.parametrize(
    ("response", "verdict"),
    [
        ("12b0 12c0", "correct"),
        ("12b0 12a0", "wrong"),
        ("12b1 12c1", "wrong"),
        ("12b1 12c0", "wrong"),  # the last line is right, the way there is not
        ("", "malformed"),
        ("12c0", "malformed"),
        ("12b0", "malformed"),
        ("12b0 12c0 ", "malformed"),
        (" 12b0 12c0", "malformed"),
        ("12b012c0", "malformed"),
        ("12b0  12c0", "malformed"),
        ("12b0\n12c0", "malformed"),
        ("12b0 12c0\n", "malformed"),
        ("12B0 12C0", "malformed"),
        ("12b0 12j0", "malformed"),
        ("12b0 1२c0", "malformed"),
        ("12b0 12c0 12c0", "malformed"),
        ("12b0 12c<|pad|>", "malformed"),
        ("1" * 10_000, "malformed"),
    ],
)
def test_only_the_exact_exponents_are_right(response: str, verdict: str) -> None:
    verification = verifier().verify(PROBLEM, response)
    assert verification.verdict == verdict
    assert verification.reward == (1.0 if verdict == "correct" else 0.0)


def test_of_all_lines_near_the_right_one_exactly_one_is_right() -> None:
    problem = Problem("V*C=", "12b0")
    found = ["".join(cells) for cells in product("ab012", repeat=4)]
    verdicts = {line: verifier().verify(problem, line).verdict for line in found}
    assert [line for line, verdict in verdicts.items() if verdict == "correct"] == ["12b0"]
    assert set(verdicts.values()) == {"correct", "wrong"}


@given(st.text("abc0123 x", max_size=12), st.sampled_from(["nothing", "expected_outputs"]))
def test_the_feedback_is_what_the_attempts_own_lines_imply(attempt: str, reveal: str) -> None:
    verification = verifier(reveal).verify(PROBLEM, attempt)
    assert [(item.kind, item.text) for item in verification.feedback] == [
        ("execution_trace", re_executed(PROBLEM.prompt, attempt))
    ]


def test_problems_of_another_source_are_not_judged() -> None:
    with pytest.raises(VerifierError, match=r"must be unit_algebra"):
        verifier().verify(Problem("V*C/s=", "12b0 12b0"), "12b0 12b0")
