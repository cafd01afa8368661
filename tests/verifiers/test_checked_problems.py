"""Problems of the verifiers that run code, checked before anything is sampled."""

import json
from typing import Any

import pytest
from code_problems import METADATA, build, problem

from distil_core.errors import VerifierError
from distil_core.problems.base import Problem

BROKEN: list[tuple[str, dict[str, Any], str]] = [
    ("function_calls", {"tests": [{"arguments": "()", "expected": "1"}]}, "entry_point"),
    ("function_calls", {"entry_point": "f", "tests": []}, "tests"),
    (
        "function_calls",
        {"entry_point": "f", "tests": [{"arguments": "(1", "expected": "1"}]},
        "is no literal",
    ),
    (
        "function_calls",
        {"entry_point": "f", "tests": [{"arguments": "()", "expected": "g()"}]},
        "is no literal",
    ),
    (
        "function_calls",
        {"entry_point": "f", "preamble": "(", "tests": [{"arguments": "()", "expected": "1"}]},
        "the preamble .* is no Python",
    ),
    ("assert_tests", {"entry_point": "f", "tests": [{"code": "assert f(1) =="}]}, "a test .* no"),
    (
        "assert_tests",
        {"entry_point": "f", "tests": [{"code": "assert f(1)"}], "setup": "def check(:"},
        "the tests' setup .* is no Python",
    ),
    ("stdin_programs", {"tests": [{"stdin": "1"}]}, "stdout"),
    ("stdin_programs", {"tests": [{"stdin": "1", "stdout": 1}]}, "stdout"),
]


@pytest.mark.parametrize(("name", "metadata", "said"), BROKEN)
def test_what_no_response_could_be_judged_by_is_found(
    name: str, metadata: dict[str, Any], said: str
) -> None:
    verifier = build(name)
    broken = Problem("p", "r", json.dumps(metadata))
    with pytest.raises(VerifierError, match=said):
        verifier.check_problem(broken)
    with pytest.raises(VerifierError, match=said):
        verifier.verify(broken, "def f(x): return 1")
    verifier.close()


@pytest.mark.parametrize("name", METADATA)
def test_tests_that_can_be_read_pass_and_nothing_starts(name: str) -> None:
    verifier = build(name)
    verifier.check_problem(problem(METADATA[name]))
    assert verifier.sandbox.num_zygotes_started == 0  # type: ignore[attr-defined]
    for text in ("", "null", "[1]", "{", '{"tests": ' * 5000):
        with pytest.raises(VerifierError):
            verifier.check_problem(Problem("p", "r", text))
    verifier.close()
