"""Problems whose solution is 3 * x + 1, one test public and one hidden."""

import json
from typing import Any

from distil_core.problems.base import Problem
from distil_core.verifiers import VERIFIERS
from distil_core.verifiers.base import Verification, Verifier

CALLS = {
    "entry_point": "f",
    "tests": [
        {"arguments": "(1,)", "expected": "4", "public": True},
        {"arguments": "(7770,)", "expected": "23311"},
    ],
}
ASSERTS = {
    "entry_point": "f",
    "tests": [
        {"code": "assert f(1) == 4", "public": True},
        {"code": "assert f(7770) == 23311, 'hidden message'"},
    ],
}
PROGRAMS = {
    "tests": [
        {"stdin": "1\n", "stdout": "4\n", "public": True},
        {"stdin": "7770\n", "stdout": "23311\n"},
    ],
}
METADATA: dict[str, dict[str, Any]] = {
    "function_calls": CALLS,
    "assert_tests": ASSERTS,
    "stdin_programs": PROGRAMS,
}
LIMITS = {"cpu_time_s": 0.5, "wall_time_s": 20, "memory_mb": 300, "output_kb": 64}


def problem(metadata: dict[str, Any]) -> Problem:
    return Problem("Write it.", "hidden reference", json.dumps(metadata))


def build(name: str, reveal: str = "nothing", **options: Any) -> Verifier:
    verifier: Verifier = VERIFIERS.build(name, {"limits": LIMITS, **options}, reveal=reveal)
    return verifier


def verify(
    name: str,
    response: str,
    metadata: dict[str, Any] | None = None,
    reveal: str = "nothing",
    **options: Any,
) -> Verification:
    """The verification by a verifier of its own."""
    verifier = build(name, reveal, **options)
    try:
        return verifier.verify(problem(metadata or METADATA[name]), response)
    finally:
        verifier.close()


def feedback_text(verification: Verification, kind: str = "tool_output") -> str:
    return "\n".join(item.text for item in verification.feedback if item.kind == kind)
