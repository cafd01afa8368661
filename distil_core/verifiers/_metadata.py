"""What a problem carries for its verifier besides the reference."""

import json
from typing import Any

from distil_core.errors import VerifierError
from distil_core.problems.base import Problem


def metadata_of(problem: Problem) -> dict[str, Any]:
    """The problem's metadata. Raises `VerifierError` where it is no JSON object."""
    try:
        metadata = json.loads(problem.metadata)
    except (ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        raise VerifierError(
            f"problem {problem.problem_id}: expected its metadata to be a JSON object, found "
            f"{problem.metadata[:80]!r}"
        )
    return metadata
