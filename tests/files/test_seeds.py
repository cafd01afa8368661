"""Seeds depend on what they are for, and on nothing else (1 s)."""

from itertools import pairwise, product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from distil_core.seeds import derive_seed, generator, seeded_generator

parts = st.lists(st.integers() | st.text(max_size=8), max_size=4)


def test_known_values() -> None:
    """Pinned: another derivation would silently change every campaign."""
    assert derive_seed(7, 3, "sample", "problem", 2) == 2781881140805493059
    assert derive_seed(0) == 4761921975702974394
    assert generator(7, "order", 0).permutation(8).tolist() == [5, 2, 0, 6, 3, 4, 7, 1]


@given(st.integers(0, 2**63 - 1), parts)
def test_fits_an_int64_column(run_seed: int, purpose: list[int | str]) -> None:
    assert 0 <= derive_seed(run_seed, *purpose) < 2**63


@given(parts, parts)
def test_different_purposes_differ(first: list[int | str], second: list[int | str]) -> None:
    """Also those that would read alike when joined: ("a/b",) and ("a", "b"), (1,) and ("1",)."""
    assert (derive_seed(1, *first) == derive_seed(1, *second)) == (first == second)


def test_parts_do_not_run_together() -> None:
    alike = [("a/b",), ("a", "b"), ("a'/'b",), (1,), ("1",), (1, 2), (12,), (), ("",)]
    assert len({derive_seed(1, *purpose) for purpose in alike}) == len(alike)
    assert derive_seed(1, 2) != derive_seed(12)


def test_no_two_rollouts_of_a_campaign_share_a_seed() -> None:
    grid = product(range(3), range(20), ("sample", "train"), range(100), range(8))
    seeds = [derive_seed(run, *purpose) for run, *purpose in grid]
    assert len(set(seeds)) == len(seeds) == 96_000


def test_neighbouring_seeds_give_unrelated_streams() -> None:
    draws = np.stack([generator(1, "row", row).random(64) for row in range(200)])
    correlations = [abs(np.corrcoef(a, b)[0, 1]) for a, b in pairwise(draws)]
    assert np.mean(correlations) < 0.15  # 0.1 is expected of independent rows


@given(st.integers(0, 2**63 - 1))
def test_a_seeds_stream_is_that_of_numpys_philox_with_it_as_key(seed: int) -> None:
    expected = np.random.Generator(np.random.Philox(key=seed))
    found = seeded_generator(seed)
    assert found.random(9).tolist() == expected.random(9).tolist()
    assert found.permutation(7).tolist() == expected.permutation(7).tolist()


def test_streams_do_not_depend_on_the_order_they_are_made_in() -> None:
    forwards = {row: generator(5, "row", row).random(3).tolist() for row in range(5)}
    backwards = {row: generator(5, "row", row).random(3).tolist() for row in reversed(range(5))}
    np.random.seed(1)
    generator(5, "other").random(1000)
    assert forwards == backwards
    assert forwards[2] == generator(5, "row", 2).random(3).tolist()
