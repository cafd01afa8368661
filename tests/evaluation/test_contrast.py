"""Differences of two sides: which interval is taken, and that each is what it is called."""

from statistics import fmean
from typing import Any

import numpy as np
import pytest
from evaluation_rows import rows
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from distil_core.evaluation.comparison import paired_differences
from distil_core.evaluation.contrast import contrast
from distil_core.evaluation.over_seeds import difference_of_means, mean_over_seeds
from distil_core.evaluation.summary import columns_of, evaluation_frame

Columns = dict[str, NDArray[Any]]


def columns(corrects: list[int], start: int = 0, **changes: Any) -> Columns:
    """Of problems `start`, `start` + 1 and so on."""
    made = rows(corrects, **changes)
    renamed = [
        type(row)(**{**vars(row), "problem_id": f"{start + place:04d}"})
        for place, row in enumerate(made)
    ]
    return columns_of(evaluation_frame(renamed))


NEW = columns([4, 3, 0, 2, 4, 1, 3, 4, 0, 2])
OLD = columns([3, 3, 1, 2, 1, 1, 2, 4, 0, 0])


def test_single_runs_on_the_same_problems_are_paired_by_problem() -> None:
    found = contrast({1: NEW}, {1: OLD}, 500, 7)
    assert found.shared == "problems"
    expected = paired_differences(NEW, OLD, 500, 7)
    assert {name: (e.value, e.low, e.high) for name, e in found.scores.items()} == {
        name: (d.value, d.low, d.high) for name, d in expected.items()
    }
    assert (found.num_problems, found.num_better, found.num_worse) == (10, 4, 1)
    assert found.p_value == pytest.approx(stats.binomtest(4, 5).pvalue)


def test_with_one_sample_a_problem_the_sign_test_is_mcnemars() -> None:
    """Exactly: both ask whether the changed problems went one way more often than a coin would."""
    new = columns([1, 1, 1, 1, 0, 0, 1, 1], num_samples=1, majority_correct=0.0)
    old = columns([0, 0, 0, 1, 1, 0, 0, 0], num_samples=1, majority_correct=0.0)
    found = contrast({1: new}, {1: old}, 200, 7)
    gained, lost = 5, 1
    tail = sum(stats.binom.pmf(k, gained + lost, 0.5) for k in range(lost + 1))
    assert (found.num_better, found.num_worse) == (gained, lost)
    assert found.p_value == pytest.approx(2 * tail)


def test_the_order_of_problems_is_nothing() -> None:
    turned = {name: values[::-1] for name, values in OLD.items()}
    assert contrast({1: NEW}, {1: turned}, 300, 7) == contrast({1: NEW}, {1: OLD}, 300, 7)


def test_a_smaller_evaluation_is_paired_on_its_problems() -> None:
    few = {name: values[2:7] for name, values in OLD.items()}
    found = contrast({1: NEW}, {1: few}, 300, 7)
    assert (found.shared, found.num_problems) == ("problems", 5)
    part = {name: values[2:7] for name, values in NEW.items()}
    assert found == contrast({1: part}, {1: few}, 300, 7)


def test_problems_without_all_verdicts_are_left_out() -> None:
    lacking = {name: values.copy() for name, values in NEW.items()}
    lacking["num_samples"][0] = 2
    found = contrast({1: lacking}, {1: OLD}, 300, 7)
    assert found.num_problems == 9
    keep = np.arange(1, 10)
    expected = contrast(
        {1: {n: v[keep] for n, v in NEW.items()}}, {1: {n: v[keep] for n, v in OLD.items()}}, 300, 7
    )
    assert found == expected


def test_other_problems_are_resampled_on_each_side() -> None:
    elsewhere = columns([3, 3, 1, 2, 1, 1, 2, 4, 0, 0], start=5)
    found = contrast({1: NEW}, {1: elsewhere}, 4000, 7)
    assert (found.shared, found.num_problems, found.p_value) == ("nothing, single runs", 0, None)
    score = found.scores["pass_at_1"]
    assert score.value == pytest.approx(0.575 - 0.425)
    assert score.low is not None
    assert score.high is not None
    # The standard error of a difference of two independent means.
    spread = np.sqrt(sum(np.var(side["num_correct"] / 4) / 10 for side in (NEW, elsewhere)))
    assert (score.high - score.low) / 2 == pytest.approx(1.96 * spread, rel=0.08)
    paired = contrast({1: NEW}, {1: OLD}, 4000, 7).scores["pass_at_1"]
    assert paired.low is not None
    assert paired.high is not None
    assert paired.high - paired.low < score.high - score.low


def test_the_same_seeds_are_paired_by_seed() -> None:
    new = {3: NEW, 4: OLD, 5: columns([4] * 10)}
    old = {3: OLD, 4: columns([1] * 10), 5: columns([3] * 10)}
    found = contrast(new, old, 300, 7)
    means = [fmean(new[s]["num_correct"] / 4) - fmean(old[s]["num_correct"] / 4) for s in new]
    assert found.shared == "seeds"
    assert found.scores["pass_at_1"] == mean_over_seeds(means)


def test_other_seeds_have_welchs_interval() -> None:
    new, old = {1: NEW, 2: OLD}, {3: OLD, 4: columns([1] * 10), 5: NEW}
    found = contrast(new, old, 300, 7)
    shares = [[fmean(c["num_correct"] / 4) for c in side.values()] for side in (new, old)]
    assert found.shared == "nothing, many seeds"
    assert found.scores["pass_at_1"] == difference_of_means(*shares)


def test_a_single_run_against_seeds_has_no_interval() -> None:
    found = contrast({1: NEW}, {1: OLD, 2: OLD}, 300, 7)
    assert found.shared == "nothing, one run"
    score = found.scores["pass_at_1"]
    assert (score.value, score.low, score.high) == (pytest.approx(0.15), None, None)


def test_scores_that_only_one_has_are_left_out() -> None:
    fewer = columns([1, 0, 2, 2, 1, 0, 0, 2, 1, 1], num_samples=2, majority_correct=0.0)
    for old in ({1: fewer}, {1: fewer, 2: fewer}):
        assert list(contrast({1: NEW}, old, 100, 7).scores) == ["pass_at_1", "pass_at_2"]


@given(st.lists(st.integers(0, 4), min_size=2, max_size=30), st.integers(0, 2**31))
def test_a_policy_does_not_differ_from_itself(corrects: list[int], seed: int) -> None:
    same = columns(corrects)
    found = contrast({1: same}, {1: same}, 50, seed)
    assert found.p_value == 1.0
    assert all((e.value, e.low, e.high) == (0.0, 0.0, 0.0) for e in found.scores.values())
