"""One policy's evaluation in figures: what metrics.json holds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from distil_core.evaluation.pass_at_k import bootstrap_interval, pass_at_k, powers_of_two_up_to


def summarise(
    rows: Sequence[Mapping[str, Any]], num_bootstrap: int, seed: int
) -> dict[str, float | int]:
    """Flat figures from the rows of an evaluation table (tables/schemas.py, EVALUATION).

    pass_at_k for k = 1, 2, 4 .. n with `_low` and `_high`, the ends of its 95% interval over
    problems; malformed and truncated responses as shares of all; lengths in tokens.
    """
    num_samples = int(rows[0]["num_samples"])
    num_correct_p = np.array([row["num_correct"] for row in rows], dtype=np.int64)
    summary: dict[str, float | int] = {"num_problems": len(rows), "num_samples": num_samples}
    for k in powers_of_two_up_to(num_samples):
        values_p = pass_at_k(num_correct_p, num_samples, k)
        low, high = bootstrap_interval(values_p, num_bootstrap, seed)
        summary[f"pass_at_{k}"] = float(values_p.mean())
        summary[f"pass_at_{k}_low"] = low
        summary[f"pass_at_{k}_high"] = high
    summary["malformed_rate"] = _mean(rows, "num_malformed") / num_samples
    summary["truncation_rate"] = _mean(rows, "num_truncated") / num_samples
    summary["distinct_responses_mean"] = _mean(rows, "num_distinct")
    summary["response_tokens_mean"] = _mean(rows, "response_tokens_mean")
    return summary


def _mean(rows: Sequence[Mapping[str, Any]], column: str) -> float:
    return float(np.mean([row[column] for row in rows]))
