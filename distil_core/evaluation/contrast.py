"""Two sides of a comparison, each one policy for each seed: the differences of their scores.

Which interval fits depends on what the sides share: problems, seeds or neither.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from distil_core.evaluation.bootstrap import interval, resampled_means
from distil_core.evaluation.comparison import common_num_samples, paired_differences
from distil_core.evaluation.over_seeds import Estimate, difference_of_means, mean_over_seeds
from distil_core.evaluation.summary import (
    Columns,
    complete,
    num_samples_of,
    per_problem_scores,
)

SIDES_SHARE = {
    "problems": "paired by problem: bootstrap over the problems",
    "seeds": "paired by seed: t-interval over the seeds' differences",
    "nothing, many seeds": "seeds that do not correspond: Welch's t-interval over the seeds",
    "nothing, single runs": "other problems on each side: each side's problems resampled",
    "nothing, one run": "one side is a single run, which has no spread over seeds: no interval",
}
"""What an interval is made of, by what the sides share."""


@dataclass(frozen=True)
class Contrast:
    """New less old. scores: by name, pass_at_k and majority_at_n as far as both have them. shared:
    a key of `SIDES_SHARE`. num_problems: that were paired, 0 where none were. num_better,
    num_worse: of these, where the new policy is right on more or fewer of its samples. p_value: of
    the exact sign test on those (McNemar's where there is one sample a problem)."""

    scores: Mapping[str, Estimate]
    shared: str
    num_problems: int = 0
    num_better: int = 0
    num_worse: int = 0
    p_value: float | None = None


def contrast(
    new: Mapping[int, Columns], old: Mapping[int, Columns], num_bootstrap: int, seed: int
) -> Contrast:
    """The sides' evaluations by the seed of their campaign. seed: of the resampling."""
    if len(new) == len(old) == 1:
        [one], [other] = new.values(), old.values()
        return _of_single_runs(one, other, num_bootstrap, seed)
    largest_k = min(num_samples_of(each) for side in (new, old) for each in side.values())
    ours, theirs = (_means(side, largest_k) for side in (new, old))
    names = [name for name in _first(ours) if all(name in each for each in theirs.values())]
    if new.keys() == old.keys():
        paired = {
            name: mean_over_seeds([ours[each][name] - theirs[each][name] for each in new])
            for name in names
        }
        return Contrast(paired, "seeds")
    shared = "nothing, many seeds" if min(len(new), len(old)) > 1 else "nothing, one run"
    return Contrast(
        {
            name: difference_of_means(
                [means[name] for means in ours.values()], [means[name] for means in theirs.values()]
            )
            for name in names
        },
        shared,
    )


def _of_single_runs(new: Columns, old: Columns, num_bootstrap: int, seed: int) -> Contrast:
    pair = _on_common_problems(new, old)
    if pair is None:
        return Contrast(_independent(new, old, num_bootstrap, seed), "nothing, single runs")
    differences = paired_differences(*pair, num_bootstrap, seed)
    scores = {name: Estimate(each.value, each.low, each.high) for name, each in differences.items()}
    ours, theirs = (_share_correct(columns) for columns in pair)
    better, worse = (int((sign * (ours - theirs) > 0).sum()) for sign in (1, -1))
    return Contrast(scores, "problems", len(ours), better, worse, _sign_test(better, worse))


def _on_common_problems(new: Columns, old: Columns) -> tuple[Columns, Columns] | None:
    """Both on the problems of the smaller evaluation, in one order, where the larger one has all of
    these; None where each has problems of its own."""
    ours, theirs = new["problem_id"], old["problem_id"]
    common, *places = np.intersect1d(ours, theirs, assume_unique=True, return_indices=True)
    if len(common) < min(len(ours), len(theirs)):
        return None
    one, other = (
        {name: values[place] for name, values in columns.items()}
        for columns, place in zip((new, old), places, strict=True)
    )
    judged_p = (one["num_samples"] == one["num_samples"].max()) & (
        other["num_samples"] == other["num_samples"].max()
    )
    return (
        {name: values[judged_p] for name, values in one.items()},
        {name: values[judged_p] for name, values in other.items()},
    )


def _share_correct(columns: Columns) -> NDArray[np.float64]:
    share_p: NDArray[np.float64] = columns["num_correct"] / columns["num_samples"]
    return share_p


def _sign_test(better: int, worse: int) -> float:
    """Of as many heads and tails from a fair coin, exactly; 1 where no problem changed."""
    from scipy import stats

    if not better + worse:
        return 1.0
    return float(stats.binomtest(better, better + worse).pvalue)


def _independent(new: Columns, old: Columns, num_bootstrap: int, seed: int) -> dict[str, Estimate]:
    largest_k = common_num_samples(new, old)
    ours, theirs = (per_problem_scores(complete(each), largest_k) for each in (new, old))
    names = [name for name in ours if name in theirs]
    # Draws of their own, as the same ones would make pairs of problems that are no pairs.
    resampled = [
        resampled_means(np.stack([side[name] for name in names], axis=1), num_bootstrap, number)
        for side, number in ((ours, seed), (theirs, seed + 1))
    ]
    apart_bm = resampled[0] - resampled[1]
    return {
        name: Estimate(
            float(ours[name].mean() - theirs[name].mean()), *interval(apart_bm[:, place])
        )
        for place, name in enumerate(names)
    }


def _means(side: Mapping[int, Columns], largest_k: int) -> dict[int, dict[str, float]]:
    return {
        seed: {
            name: fmean(values)
            for name, values in per_problem_scores(complete(columns), largest_k).items()
        }
        for seed, columns in side.items()
    }


def _first(means: Mapping[int, Mapping[str, float]]) -> Sequence[str]:
    return list(next(iter(means.values())))
