"""Rows of evaluation tables for tests, from counts."""

from typing import Any

from distil_core.tables.schemas import EvaluationRow


def row(correct: int, num_samples: int = 4, problem_id: str = "a", **changes: Any) -> EvaluationRow:
    return EvaluationRow(
        **{
            "problem_id": problem_id,
            "split": "eval",
            "num_samples": num_samples,
            "num_correct": correct,
            "num_malformed": 0,
            "num_truncated": 0,
            "num_distinct": 2,
            "num_distinct_answers": 2,
            "majority_correct": float(2 * correct > num_samples),
            "response_tokens_mean": 6.0,
            "entropy_per_response": 1.2,
            "entropy_per_token": 0.2,
            "first_response": "x",
            "first_verdict": "wrong",
            **changes,
        }
    )


def rows(corrects: list[int], **changes: Any) -> list[EvaluationRow]:
    return [row(c, problem_id=f"{i:04d}", **changes) for i, c in enumerate(corrects)]
