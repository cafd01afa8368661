"""Two policies on the same problems: the differences of their scores, paired by problem."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from distil_core.errors import DataError
from distil_core.evaluation.bootstrap import interval, resampled_means
from distil_core.evaluation.summary import (
    Columns,
    is_complete,
    num_samples_of,
    per_problem_scores,
)

SAMPLER = ("temperature", "top_p", "max_new_tokens")
"""Settings of `evaluate` that decide which distribution a policy's responses are drawn from."""


@dataclass(frozen=True)
class Difference:
    """A mean over problems of new minus old, with its 95% interval."""

    value: float
    low: float
    high: float


def paired_differences(
    new: Columns, old: Columns, num_bootstrap: int, seed: int
) -> dict[str, Difference]:
    """For each score that both can have (pass@k, majority@n): new minus old, problem by problem.

    Pairing removes the difficulty of the problems, which makes up most of the width of each score's
    own interval. pass@k is unbiased for any n >= k samples, so evaluations with different n are
    compared up to the smaller one; a majority needs the same n. Problems that lack a verdict in
    either evaluation are left out. Raises `DataError` where the two are not of the same problems.
    """
    largest_k = common_num_samples(new, old)
    order_p = matching_order(new, old)
    both_p = is_complete(new) & is_complete(old)[order_p]
    if not both_p.any():
        raise DataError("no problem has all its verdicts in both evaluations: evaluate again")
    new_scores = per_problem_scores(
        {name: values[both_p] for name, values in new.items()}, largest_k
    )
    old_scores = per_problem_scores(
        {name: values[order_p][both_p] for name, values in old.items()}, largest_k
    )
    names = [name for name in new_scores if name in old_scores]
    values_pm = np.stack([new_scores[n] - old_scores[n] for n in names], axis=1)
    resampled_bm = resampled_means(values_pm, num_bootstrap, seed)
    return {
        name: Difference(float(values_pm[:, m].mean()), *interval(resampled_bm[:, m]))
        for m, name in enumerate(names)
    }


def common_num_samples(new: Columns, old: Columns) -> int:
    """The largest k for which both have pass@k."""
    return min(num_samples_of(new), num_samples_of(old))


def other_sampler(new: Mapping[str, Any], old: Mapping[str, Any]) -> str | None:
    """The sampler's settings in which two evaluations differ, in words; None where they agree. Both
    arguments are the `evaluate` settings stored with an evaluation's table."""
    differing = [
        f"{name} {new[name]} instead of {old[name]}"
        for name in SAMPLER
        if name in new and name in old and new[name] != old[name]
    ]
    return ", ".join(differing) or None


def matching_order(new: Columns, old: Columns) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """For each of `new`'s problems its index in `old`. Raises `DataError` where the sets differ."""
    places: Mapping[str, int] = {name: index for index, name in enumerate(old["problem_id"])}
    missing = [name for name in new["problem_id"] if name not in places]
    if missing or len(places) != len(new["problem_id"]):
        raise DataError(
            f"the two evaluations are not of the same problems ({len(new['problem_id'])} and "
            f"{len(places)}, {len(missing)} of the first not among the second): evaluate both "
            "policies on the same data/problems"
        )
    return np.array([places[name] for name in new["problem_id"]], dtype=np.int64)
