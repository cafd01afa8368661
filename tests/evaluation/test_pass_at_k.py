"""Unbiased pass@k against counting every subset, and the bootstrap's coverage (3 s)."""

from itertools import combinations, pairwise
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from distil_core.evaluation.bootstrap import interval, resampled_means
from distil_core.evaluation.pass_at_k import pass_at_k, powers_of_two_up_to


def interval_of_mean(
    values_p: NDArray[np.float64], num_bootstrap: int, seed: int
) -> tuple[float, float]:
    return interval(resampled_means(values_p[:, None], num_bootstrap, seed)[:, 0])


@pytest.mark.parametrize("num_samples", range(1, 8))
def test_against_every_subset(num_samples: int) -> None:
    for num_correct in range(num_samples + 1):
        samples = [True] * num_correct + [False] * (num_samples - num_correct)
        for k in range(1, num_samples + 1):
            subsets = list(combinations(samples, k))
            expected = sum(map(any, subsets)) / len(subsets)
            (found,) = pass_at_k(np.array([num_correct]), num_samples, k)
            assert found == pytest.approx(expected, abs=1e-15)


def test_published_values() -> None:
    """The worked example of Hugging Face's code_eval metric (two candidates, one passes), and the
    estimate from 200 samples of which 1 passes that the formula's paper is about: 1 - 199/200 ..
    (arXiv 2107.03374, figure 3's code): pass@100 of one success in 200 is a half."""
    assert pass_at_k(np.array([1]), 2, 1) == [0.5]
    assert pass_at_k(np.array([1]), 2, 2) == [1.0]
    np.testing.assert_allclose(pass_at_k(np.array([1]), 200, 100), [0.5], rtol=1e-12)
    # 1 - (198 choose 10) / (200 choose 10) = 1 - (190 * 189) / (200 * 199)
    np.testing.assert_allclose(pass_at_k(np.array([2]), 200, 10), [389 / 3980], rtol=1e-12)


@given(st.data())
def test_against_exact_integers(data: st.DataObject) -> None:
    """Also where the binomials do not fit a float."""
    num_samples = data.draw(st.integers(1, 4000))
    num_correct = data.draw(st.integers(0, num_samples))
    k = data.draw(st.integers(1, num_samples))
    whole, none = comb(num_samples, k), comb(num_samples - num_correct, k)
    exact = (whole - none) * 10**18 // whole / 10**18
    (found,) = pass_at_k(np.array([num_correct]), num_samples, k)
    assert found == pytest.approx(exact, abs=1e-11)


@given(st.integers(1, 64), st.data())
def test_properties(num_samples: int, data: st.DataObject) -> None:
    counts = np.array(data.draw(st.lists(st.integers(0, num_samples), min_size=1, max_size=9)))
    values = [pass_at_k(counts, num_samples, k) for k in range(1, num_samples + 1)]
    assert all(((value >= 0) & (value <= 1)).all() for value in values)
    np.testing.assert_allclose(values[0], counts / num_samples, atol=1e-15)
    np.testing.assert_array_equal(values[-1], counts > 0)
    for smaller, larger in pairwise(values):
        assert (larger >= smaller - 1e-15).all(), "more tries never hurt"
    more = pass_at_k(np.minimum(counts + 1, num_samples), num_samples, 1)
    assert (more >= values[0]).all()


def test_it_is_unbiased() -> None:
    """Over all outcomes of n tries that succeed with chance p: 1 - (1 - p)^k, exactly."""
    chance, num_samples = 0.3, 8
    outcomes = np.arange(num_samples + 1)
    weights = [
        comb(num_samples, c) * chance**c * (1 - chance) ** (num_samples - c) for c in outcomes
    ]
    for k in (1, 2, 4, 8):
        expectation = (pass_at_k(outcomes, num_samples, k) * weights).sum()
        assert expectation == pytest.approx(1 - (1 - chance) ** k, abs=1e-14)


@pytest.mark.parametrize("k", [0, -1, 9])
def test_an_impossible_k(k: int) -> None:
    with pytest.raises(ValueError, match=f"found k={k}, n=8"):
        pass_at_k(np.array([1]), 8, k)


@pytest.mark.parametrize(
    ("num_samples", "expected"),
    [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (8, [1, 2, 4, 8]), (12, [1, 2, 4, 8, 12])],
)
def test_which_k_are_reported(num_samples: int, expected: list[int]) -> None:
    assert powers_of_two_up_to(num_samples) == expected


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    random, covered = np.random.default_rng(0), 0
    for trial in range(300):
        values = (random.random(200) < 0.3).astype(float)
        low, high = interval_of_mean(values, 200, seed=trial)
        assert low <= values.mean() <= high
        covered += low <= 0.3 <= high
    assert 0.91 < covered / 300 < 0.98


def test_an_interval_is_as_wide_as_theory_says() -> None:
    values = np.repeat([0.0, 1.0], 200)
    low, high = interval_of_mean(values, 4000, seed=1)
    assert high - low == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(400), rel=0.06)
    assert (low + high) / 2 == pytest.approx(0.5, abs=0.005)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(0).random(50)
    assert interval_of_mean(values, 300, 1) == interval_of_mean(values, 300, 1)
    assert interval_of_mean(values, 300, 1) != interval_of_mean(values, 300, 2)


def test_intervals_of_what_does_not_vary() -> None:
    assert interval_of_mean(np.ones(20), 100, 1) == (1.0, 1.0)
    assert interval_of_mean(np.array([0.25]), 100, 1) == (0.25, 0.25)
