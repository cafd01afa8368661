"""Means over seeds: the intervals are Student's and Welch's, and cover as often as they say."""

import math
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from distil_core.evaluation.over_seeds import Estimate, difference_of_means, mean_over_seeds

VALUES = st.lists(st.floats(-10, 10), min_size=2, max_size=12)


def ends(estimate: Estimate) -> tuple[float, float]:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low, estimate.high


@given(VALUES)
def test_it_is_students_interval(values: list[float]) -> None:
    found = mean_over_seeds(values)
    assert found.value == pytest.approx(fmean(values), abs=1e-12)
    if np.std(values) > 1e-6:
        expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
        assert ends(found) == pytest.approx((expected.low, expected.high), rel=1e-6, abs=1e-9)


@given(VALUES, VALUES)
def test_the_difference_is_welchs(new: list[float], old: list[float]) -> None:
    found = difference_of_means(new, old)
    if min(np.std(new), np.std(old)) > 1e-6:
        expected = stats.ttest_ind(new, old, equal_var=False).confidence_interval(0.95)
        assert ends(found) == pytest.approx((expected.low, expected.high), rel=1e-6, abs=1e-9)


def test_one_value_has_no_interval() -> None:
    assert mean_over_seeds([0.5]) == Estimate(0.5, None, None)
    assert difference_of_means([0.5, 0.6], [0.4]) == Estimate(pytest.approx(0.15), None, None)


def test_equal_values_have_one_without_width() -> None:
    assert ends(mean_over_seeds([0.5, 0.5, 0.5])) == (0.5, 0.5)
    assert difference_of_means([1.0, 1.0], [0.5, 0.5]) == Estimate(0.5, 0.5, 0.5)


def test_an_interval_is_cut_to_what_a_share_can_be() -> None:
    cut = mean_over_seeds([0.98, 1.0, 0.99]).within(0.0, 1.0)
    assert cut.high == 1.0
    assert ends(mean_over_seeds([0.98, 1.0, 0.99]))[1] > 1.0
    assert Estimate(0.5, None, None).within(0.0, 1.0) == Estimate(0.5, None, None)


def test_three_seeds_are_covered_as_often_as_said_and_resampling_them_is_not() -> None:
    """Of 4,000 sets of three; that the bootstrap covers too rarely is why it is not used."""
    random = np.random.default_rng(5)
    samples = random.normal(0.7, 0.02, (4000, 3))
    covered = [low <= 0.7 <= high for low, high in (ends(mean_over_seeds(s)) for s in samples)]
    # Within four standard errors of 0.95.
    assert abs(fmean(covered) - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 4000)
    drawn = random.integers(0, 3, (4000, 200, 3))
    means = np.take_along_axis(samples[:, None, :], drawn, axis=2).mean(-1)
    low, high = np.quantile(means, (0.025, 0.975), axis=1)
    assert ((low <= 0.7) & (high >= 0.7)).mean() < 0.85
