"""What the checks measure of each kind of table, by name (docs/checks.md).

A share is of the rows, or of what its setting in `config/_checks.py` says. What a table has nothing
for is left out.
"""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from distil_core.errors import DataError
from distil_core.evaluation.summary import columns_of, complete, is_complete
from distil_core.tables.schemas import (
    CONSULTATIONS,
    CONTINUATIONS,
    CONTINUATIONS_FOLDER,
    EVALUATION,
    FEEDBACK,
    ROLLOUTS,
)
from distil_core.tables.store import read_shards, scan_table

Measured = dict[str, float]
_Floats = NDArray[np.float64]

_ROUNDING = 1e-3
"""How far above zero a log-probability may be by rounding."""


def rollouts(path: Path) -> Measured:
    """Of rollouts.parquet."""
    table, _ = scan_table(path, ROLLOUTS)
    answered = pl.col("error").is_null()
    logprobs = pl.col("behaviour_logprobs").explode()
    bad = ~logprobs.is_finite() | (logprobs > _ROUNDING)
    frame = table.select(
        rows=pl.len(),
        failed_share=(~answered).mean(),
        truncation_share=(pl.col("finish_reason") == "length").filter(answered).mean(),
        duplicate_share=(
            pl.struct("problem_id", pl.col("response_ids").hash())
            .filter(answered)
            .is_first_distinct()
            .not_()
            .mean()
        ),
        bad_logprob_share=bad.mean(),
    )
    return _first_row(frame)


def consultations(path: Path) -> Measured:
    """Of consultations.parquet."""
    table, _ = scan_table(path, CONSULTATIONS)
    judged = pl.col("reward").is_not_null()
    frame = table.select(
        rows=pl.len(),
        without_verdict_share=(~judged).mean(),
        malformed_share=(pl.col("verdict") == "malformed").filter(judged).mean(),
        without_feedback_share=(pl.col("feedback").list.len() == 0).mean(),
        reward_mean=pl.col("reward").cast(pl.Float64).mean(),
    )
    # Named iteration/problem_id/sample index.
    problem = pl.col("rollout_id").str.split("/").list.get(1)
    groups = (
        table.filter(judged)
        .group_by(problem)
        .agg(dead=pl.col("reward").n_unique() == 1, size=pl.len())
        .filter(pl.col("size") > 1)
        .select(dead_group_share=pl.col("dead").mean())
    )
    return _first_row(frame) | _first_row(groups)


def feedback(path: Path) -> Measured:
    """Of feedback/, shard by shard. The expert's own rows count in `mass_error`."""
    num_rows = num_silent = num_tokens = num_unlabelled = 0
    tail_mass = error = 0.0
    for table, _ in read_shards(path, FEEDBACK):
        has_expert = table["has_expert"].to_numpy()
        num_rows += len(has_expert)
        num_silent += int((~has_expert).sum())
        masses_t, tails_t, labelled_t = _masses(table)
        num_tokens += len(masses_t)
        num_unlabelled += int((~labelled_t).sum())
        tail_mass += float(tails_t[labelled_t].sum())
        error = max(error, _largest_error(masses_t[labelled_t]))
    found = {"rows": float(num_rows), "silent_share": num_silent / num_rows, "mass_error": error}
    if num_tokens > num_unlabelled:
        found["tail_mass_mean"] = tail_mass / (num_tokens - num_unlabelled)
    if num_tokens:
        found["unlabelled_share"] = num_unlabelled / num_tokens
    continued = path / CONTINUATIONS_FOLDER
    if continued.exists():
        num_continued = 0
        for table, _ in read_shards(continued, CONTINUATIONS):
            num_continued += table.num_rows
            masses_t, _, labelled_t = _masses(table)
            found["mass_error"] = max(found["mass_error"], _largest_error(masses_t[labelled_t]))
        found["continuation_rows"] = float(num_continued)
    return found


def training(path: Path) -> Measured:
    """Of train_curve.csv. Raises `DataError` where it is missing or lacks the norms."""
    try:
        norms = pl.read_csv(path, columns=["gradient_norm"])["gradient_norm"].to_numpy()
        return {"steps": float(len(norms)), "gradient_norm_max": float(norms.max())}
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path} cannot be read ({error}): run the stage that writes it") from error


def evaluation(path: Path) -> Measured:
    """Of the held-out problems in evaluation.parquet."""
    columns = columns_of(scan_table(path, EVALUATION)[0])
    verified = complete(columns)
    num_samples = float(verified["num_samples"].sum())
    found = {
        "rows": float(len(columns["num_samples"])),
        "without_verdict_share": float((~is_complete(columns)).mean()),
        "truncation_share": float(verified["num_truncated"].sum()) / num_samples,
        "malformed_share": float(verified["num_malformed"].sum()) / num_samples,
    }
    asked_p = verified["expert_num_samples"]
    if asked_p.any():
        was_asked = asked_p > 0
        expert_p = verified["expert_num_correct"][was_asked] / asked_p[was_asked]
        student_p = (verified["num_correct"] / verified["num_samples"])[was_asked]
        found["expert_gain"] = float((expert_p - student_p).mean())
    return found


def _masses(table: pa.Table) -> tuple[_Floats, _Floats, NDArray[np.bool_]]:
    """At each token of the rows that have an expert: the whole mass, the tail's, and whether there
    is any distribution."""
    counts_t = _values(table["expert_counts"]).astype(np.int64)
    probabilities = np.exp(_values(table["expert_logprobs"]).astype(np.float64))
    tails_t = np.exp(_values(table["expert_tail_logprobs"]).astype(np.float64))
    owners = np.repeat(np.arange(len(counts_t)), counts_t)
    stored_t = np.asarray(np.bincount(owners, probabilities, len(counts_t)), np.float64)
    return stored_t + tails_t, tails_t, (counts_t > 0) | (tails_t > 0)


def _values(column: pa.ChunkedArray) -> NDArray[Any]:
    """The values of a list column, row by row."""
    parts = [chunk.flatten().to_numpy() for chunk in column.chunks]
    return np.concatenate(parts) if parts else np.zeros(0)


def _largest_error(masses: _Floats) -> float:
    # A NaN is the worst there can be, and no comparison finds it.
    errors = np.nan_to_num(np.abs(masses - 1.0), nan=1.0)
    return float(errors.max()) if len(errors) else 0.0


def _first_row(frame: pl.LazyFrame) -> Measured:
    (row,) = frame.collect().iter_rows(named=True)
    return {name: float(value) for name, value in row.items() if value is not None}
