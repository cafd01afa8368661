"""The verifier of fitted expressions, in the real sandbox (8 s)."""

import json
from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distil_core.config.models import Component, ConsultParams
from distil_core.errors import SandboxError, VerifierError
from distil_core.problems.base import Problem
from distil_core.problems.linear_expression import LinearExpressions, Options
from distil_core.sandbox import Sandbox
from distil_core.verifiers import build_verifier
from distil_core.verifiers.base import Verification, Verifier

HIDDEN = [{"inputs": [2, -3, 5], "output": 28}, {"inputs": [-9, 1, 0], "output": -24}]
PROBLEM = Problem("4y7x6z9=", "4+3*y-1*x+3*z", json.dumps({"hidden_tests": HIDDEN}))
SOURCE = LinearExpressions(Options(num_variables=3, demonstrator_slip_probability=0.7))


def build(reveal: str = "nothing") -> Verifier:
    component = Component(name="linear_expression")
    return build_verifier(ConsultParams(verifier=component, reveal=reveal))


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    built = build()
    yield built
    built.close()


def feedback(verification: Verification) -> str:
    (item,) = verification.feedback
    assert item.kind == "execution_trace"
    return item.text


@pytest.mark.parametrize(
    ("response", "verdict", "trace"),
    [
        ("4+3*y-1*x+3*z", "correct", "4+3@y-1@x+3@z"),
        # What it yields counts, not how it is written.
        ("3*(y+z)-x+4", "correct", "4+3@y-1@x+3@z"),
        ("4+2*y+1*y-1*x+3*z", "correct", "4+3@y-1@x+3@z"),
        ("sum([4,3*y,-x,3*z])", "correct", "4+3@y-1@x+3@z"),
        ("4+2*y-1*x+3*z", "wrong", "4+3@y+0@x+4@z"),
        # Right on all that the prompt shows, wrong beyond.
        ("[4,7,6,9][x+y+z]", "wrong", "4+3@y-1@x+3@z"),
        ("4+3*y*y-1*x+3*z", "wrong", "4+3@y-1@x+3@z"),
        ("4", "wrong", "4+3@y+2@x+5@z"),
        ("9**9", "wrong", "4-9@y-9@x-9@z"),
        ("4+3*y-1*x+3*z\n", "correct", "4+3@y-1@x+3@z"),
        ("", "malformed", "SyntaxError"),
        ("4+3*y-", "malformed", "SyntaxError"),
        ("4+03*y", "malformed", "SyntaxError"),
        ("4\x00", "malformed", "SyntaxError"),
        ("import os", "malformed", "SyntaxError"),
        ("4;4", "malformed", "SyntaxError"),
        ("x=4", "malformed", "SyntaxError"),
        ("4+3*w", "malformed", "4 NameError"),
        ("4//y", "malformed", "4 ZeroDivisionError"),
        ("12//(3-y-x-z)", "malformed", "4+3@y+0@x-3@z ZeroDivisionError"),
        ("4.0+3*y-1*x+3*z", "malformed", "4 float"),
        ("x<5", "malformed", "4 bool"),
        ("'4'", "malformed", "4 str"),
        ("lambda:4", "malformed", "4 object"),
        ("exec('raise SystemExit')", "malformed", "4 SystemExit"),
        ("__import__('os')._exit(0)", "malformed", "4 exited"),
        ("__import__('os').kill(0,9)", "malformed", None),
        ("4 if 1 else f()", "wrong", "4+3@y+2@x+5@z"),
    ],
)
def test_what_a_response_is_worth(
    verifier: Verifier, response: str, verdict: str, trace: str | None
) -> None:
    verification = verifier.verify(PROBLEM, response)
    assert verification.verdict == verdict
    assert verification.reward == float(verdict == "correct")
    if trace is not None:
        assert feedback(verification) == trace
    assert verification.isolation == "bubblewrap_zygote"


def test_what_never_ends_or_never_fits_is_stopped(verifier: Verifier) -> None:
    for response, trace in (
        ("9**9**9**9", "4 cpu_timeout"),
        ("[0]*9**9", "4 MemoryError"),
        ("1<<99999999", "4 answer_limit"),
    ):
        verification = verifier.verify(PROBLEM, response)
        assert verification.verdict == "malformed"
        assert feedback(verification) == trace
    assert verifier.verify(PROBLEM, PROBLEM.reference).reward == 1.0


def test_hidden_outputs_are_told_to_nobody() -> None:
    other = Problem(
        PROBLEM.prompt,
        "4",
        json.dumps({"hidden_tests": [{"inputs": [2, 2, 2], "output": 99}]}),
    )
    for reveal in ("nothing", "expected_outputs"):
        verifier = build(reveal)
        told = [feedback(verifier.verify(problem, "4+2*y")) for problem in (PROBLEM, other)]
        verifier.close()
        assert told[0] == told[1]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_references_are_right_and_other_attempts_are_judged_by_their_outputs(
    verifier: Verifier, seed: int
) -> None:
    problem = next(SOURCE.problems("train", seed))
    assert verifier.verify(problem, problem.reference).verdict == "correct"
    random = np.random.default_rng(seed)
    for attempt in (
        SOURCE.corrupted_attempt(problem, random),
        SOURCE.demonstration(problem, random),
    ):
        found = verifier.verify(problem, attempt)
        assert (found.verdict == "correct") == _equals(attempt, problem.reference)


def _equals(attempt: str, reference: str) -> bool:
    """Of this source's own attempts: the constant and, for each variable, the same coefficients."""
    return attempt.removesuffix("+0") == reference


def test_the_oracles_labels_are_what_feedback_says(verifier: Verifier) -> None:
    """At every state along an attempt that is an expression, on the solution's path and off it."""
    random = np.random.default_rng(0)
    compared = 0
    for problem in islice(SOURCE.problems("train", 5), 60):
        attempt = SOURCE.corrupted_attempt(problem, random)
        if len(attempt) == len(problem.reference):
            told = feedback(verifier.verify(problem, attempt))
            assert SOURCE.oracle_characters(problem, attempt) == told.replace("@", "*")
            compared += attempt != problem.reference
    assert compared > 20


def test_order_and_repetition_change_nothing(verifier: Verifier) -> None:
    first = verifier.verify(PROBLEM, "4+2*y")
    verifier.verify(PROBLEM, "__import__('builtins').__dict__.update(sum=len)")
    assert verifier.verify(PROBLEM, "4+2*y") == first
    assert verifier.verify(PROBLEM, "sum([4,3*y,-x,3*z])").reward == 1.0


def test_problems_of_another_source_are_not_judged(verifier: Verifier) -> None:
    for problem in (Problem("V*C=", "12b0"), Problem("4x7=", "4+3*x", '{"tests": []}')):
        with pytest.raises(VerifierError, match=r"must be linear_expression"):
            verifier.verify(problem, "4")


def test_without_a_sandbox_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise SandboxError("bubblewrap is missing")

    monkeypatch.setattr(Sandbox, "run_calls", missing)
    with pytest.raises(SandboxError, match="bubblewrap is missing"):
        build().verify(PROBLEM, "4")
