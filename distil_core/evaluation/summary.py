"""One policy's evaluation as figures: the content of metrics.json."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distil_core.evaluation.bootstrap import interval, resampled_means
from distil_core.evaluation.pass_at_k import pass_at_k, powers_of_two_up_to
from distil_core.tables.schemas import EVALUATION, EvaluationRow

if TYPE_CHECKING:
    import polars as pl

Columns = Mapping[str, NDArray[Any]]
"""Columns of an evaluation table as arrays over its problems."""

_Figure = Callable[[Mapping[str, Any]], Any]
"""A figure from means over problems by name: floats, or arrays over resamples."""

HELD_OUT, GENERALISATION = "eval", "generalisation"

_KEYS = ("problem_id", "split")


def evaluation_frame(rows: Sequence[EvaluationRow]) -> "pl.LazyFrame":
    """The columns that `columns_of` reads, from rows that are not written yet."""
    import polars as pl

    types = pl.Schema(EVALUATION.arrow).items()
    names = [name for name, kind in types if kind.is_numeric() or name in _KEYS]
    # Types are inferred from the values: a forced integer type would silently cut off fractions.
    return pl.LazyFrame([vars(row) for row in rows], schema=names, infer_schema_length=None)


def columns_of(evaluation: "pl.LazyFrame", split: str = HELD_OUT) -> dict[str, NDArray[Any]]:
    """The numbers of one split of an evaluation table (whole numbers as int64, others as float64),
    and its problems' ids; empty where the table has no such split."""
    import polars as pl
    import polars.selectors as cs

    chosen = (
        evaluation.filter(pl.col("split") == split)
        .select("problem_id", cs.integer().cast(pl.Int64), cs.float().cast(pl.Float64))
        .collect()
    )
    return {column.name: column.to_numpy() for column in chosen} if len(chosen) else {}


def is_complete(columns: Columns) -> NDArray[np.bool_]:
    """The problems with a verdict on as many samples as any problem has. Scores of the others would
    come from fewer samples, selected by the verifier's failures."""
    counts = columns["num_samples"]
    complete: NDArray[np.bool_] = counts == counts.max()
    return complete


def complete(columns: Columns) -> dict[str, NDArray[Any]]:
    """Only the problems of `is_complete`."""
    chosen = is_complete(columns)
    return {name: values[chosen] for name, values in columns.items()}


def per_problem_scores(
    columns: Columns, largest_k: int | None = None
) -> dict[str, NDArray[np.float64]]:
    """The scores by which policies are compared, for each problem: pass@k for k = 1, 2, 4 .. n, and
    majority@n.

    largest_k: replaces n, to compare with a policy that has fewer samples for each problem.
    """
    num_samples = num_samples_of(columns)
    num_correct_p = columns["num_correct"].astype(np.int64)
    scores = {
        f"pass_at_{k}": pass_at_k(num_correct_p, num_samples, k)
        for k in powers_of_two_up_to(largest_k or num_samples)
    }
    majority_p = columns["majority_correct"].astype(np.float64)
    return scores | {f"majority_at_{num_samples}": majority_p}


def summarise(
    rows: Sequence[EvaluationRow], num_bootstrap: int, seed: int
) -> dict[str, float | int]:
    """Flat figures from the rows of an evaluation table (tables/schemas.py, EVALUATION).

    With `_low` and `_high`, the ends of the 95% interval over problems: pass_at_k for k = 1, 2, 4
    .. n, majority_at_n, lengths in tokens, and entropies in nats. Without: mean_at_n (which is
    pass_at_1), and malformed and truncated responses as shares of all.

    Problems that lack a verdict are left out of all figures; num_without_verdict and
    num_problems_left_out then count these responses and problems. Where the expert was asked: its
    accuracy with feedback, expert_gain over the student on the same problems, and the success bound
    (`success_bound_figures`). Where there is a generalisation split: the figures of the first kind
    with the prefix `generalisation_`.
    """
    evaluation = evaluation_frame(rows)
    held_out = columns_of(evaluation)
    summary = _policy_figures(held_out, num_bootstrap, seed)
    if (verified := complete(held_out))["expert_num_samples"].any():
        summary |= _expert_figures(verified, num_bootstrap, seed)
    harder = columns_of(evaluation, GENERALISATION)
    if harder:
        figures = _policy_figures(harder, num_bootstrap, seed)
        summary |= {f"{GENERALISATION}_{name}": value for name, value in figures.items()}
    return summary


def pass_at_k_csv(summary: Mapping[str, float | int]) -> str:
    """The held-out pass@k over k with its interval, for `dvc plots`."""
    lines = [
        f"{k},{summary[f'pass_at_{k}']},{summary[f'pass_at_{k}_low']},{summary[f'pass_at_{k}_high']}"
        for k in powers_of_two_up_to(int(summary["num_samples"]))
    ]
    return "\n".join(["k,pass_at_k,low,high", *lines]) + "\n"


def _policy_figures(all_columns: Columns, num_bootstrap: int, seed: int) -> dict[str, float | int]:
    columns = complete(all_columns)
    num_samples = num_samples_of(columns)
    values: dict[str, NDArray[np.float64]] = per_problem_scores(columns)
    for name in ("response_tokens_mean", "entropy_per_token", "entropy_per_response"):
        values[name] = columns[name].astype(np.float64)
    figures: dict[str, _Figure] = {name: _mean_of(name) for name in values}
    counts: dict[str, float | int] = {
        "num_problems": len(columns["num_correct"]),
        "num_samples": num_samples,
    }
    plain = {
        f"mean_at_{num_samples}": float(values["pass_at_1"].mean()),
        "malformed_rate": float(columns["num_malformed"].mean()) / num_samples,
        "truncation_rate": float(columns["num_truncated"].mean()) / num_samples,
        "distinct_responses_mean": float(columns["num_distinct"].mean()),
        "distinct_answers_mean": float(columns["num_distinct_answers"].mean()),
    }
    found = counts | with_intervals(values, figures, num_bootstrap, seed) | plain
    if num_left_out := int((~is_complete(all_columns)).sum()):
        num_missing = int((num_samples - all_columns["num_samples"]).sum())
        found |= {"num_without_verdict": num_missing, "num_problems_left_out": num_left_out}
    return found


def _expert_figures(columns: Columns, num_bootstrap: int, seed: int) -> dict[str, float | int]:
    asked_p = columns["expert_num_samples"]
    is_asked_p = (asked_p > 0).astype(np.float64)
    expert_p = columns["expert_num_correct"] / np.maximum(asked_p, 1)
    student_p = columns["num_correct"] / columns["num_samples"] * is_asked_p
    values = {"asked": is_asked_p, "expert": expert_p, "gain": expert_p - student_p}
    figures: dict[str, _Figure] = {
        "expert_accuracy": lambda means: means["expert"] / means["asked"],
        "expert_gain": lambda means: means["gain"] / means["asked"],
    }
    found = with_intervals(values, figures, num_bootstrap, seed)
    return {
        "expert_num_problems": int(is_asked_p.sum()),
        **found,
        **success_bound_figures(columns, num_bootstrap, seed),
    }


def success_bound_figures(
    columns: Columns, num_bootstrap: int, seed: int
) -> dict[str, float | int]:
    """docs/method.md#fact-4, from the expert's correct responses y on held-out problems x.

    success_loglikelihood: mean log pi(y | x), the expert-weighted log-likelihood of success, which
    forward cross-entropy raises.

    success_bound: E[log pi(y | x) - log T(y | x, f)] + log T(success), a lower bound on log pass@1
    for any expert T and any feedback f. It follows from Jensen's inequality, with the expert
    restricted to its successes as the proposal.

    Both are of the policy at the evaluation's temperature, without the cut at top_p. Empty where
    the expert had no success.
    """
    if not columns["expert_num_correct"].any():
        return {}
    values = {
        "asked": columns["expert_num_samples"].astype(np.float64),
        "correct": columns["expert_num_correct"].astype(np.float64),
        "student": columns["expert_success_student_logprob"].astype(np.float64),
        "expert": columns["expert_success_logprob"].astype(np.float64),
    }
    figures: dict[str, _Figure] = {
        "success_loglikelihood": lambda means: means["student"] / means["correct"],
        "success_bound": lambda means: (
            (means["student"] - means["expert"]) / means["correct"]
            + np.log(means["correct"] / means["asked"])
        ),
    }
    return with_intervals(values, figures, num_bootstrap, seed)


def with_intervals(
    values: Mapping[str, NDArray[np.float64]],
    figures: Mapping[str, _Figure],
    num_bootstrap: int,
    seed: int,
) -> dict[str, float | int]:
    """Each figure with `_low` and `_high`, or without them where some resample does not define the
    figure (an expert with very few successes)."""
    names = list(values)
    values_pm = np.stack([values[name] for name in names], axis=1)
    # A resample without any success does not define the figure; checked below.
    with np.errstate(divide="ignore", invalid="ignore"):
        resampled_bm = resampled_means(values_pm, num_bootstrap, seed)
        resampled = {name: resampled_bm[:, m] for m, name in enumerate(names)}
        means = {name: float(column.mean()) for name, column in values.items()}
        found: dict[str, float | int] = {}
        for figure, compute in figures.items():
            found[figure] = float(compute(means))
            low, high = interval(compute(resampled))
            if math.isfinite(low) and math.isfinite(high):
                found |= {f"{figure}_low": low, f"{figure}_high": high}
    return found


def _mean_of(name: str) -> _Figure:
    return lambda means: means[name]


def num_samples_of(columns: Columns) -> int:
    """The number of samples for each problem in an evaluation, where no verdict is missing."""
    return int(columns["num_samples"].max())
