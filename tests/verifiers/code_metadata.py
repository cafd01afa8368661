"""Problems of the verifiers that run code, and one verifier of each kind."""

import json
from typing import Any

from distil_core.problems.base import Problem
from distil_core.verifiers import VERIFIERS
from distil_core.verifiers.base import Verification

LIMITS = {"cpu_time_s": 0.5, "wall_time_s": 30.0, "memory_mb": 300, "output_kb": 64}


def verify(
    name: str, metadata: Any, response: str, reveal: str = "nothing", **options: Any
) -> Verification:
    verifier = VERIFIERS.build(name, {"limits": LIMITS, **options}, reveal=reveal)
    try:
        result: Verification = verifier.verify(Problem("?", "", json.dumps(metadata)), response)
    finally:
        verifier.close()
    return result


def text(result: Verification) -> str:
    return "\n".join(item.text for item in result.feedback)


def calls(*tests: tuple[str, str, bool], **more: Any) -> dict[str, Any]:
    return {
        "entry_point": "f",
        "tests": [{"arguments": a, "expected": e, "public": p} for a, e, p in tests],
        **more,
    }


def asserts(*tests: tuple[str, bool], **more: Any) -> dict[str, Any]:
    return {"entry_point": "f", "tests": [{"code": c, "public": p} for c, p in tests], **more}


def programs(*tests: tuple[str, str, bool]) -> dict[str, Any]:
    return {"tests": [{"stdin": i, "stdout": o, "public": p} for i, o, p in tests]}
