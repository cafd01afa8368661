"""Round log-probabilities to as few digits as a bounded error allows, so that they compress
well."""

import numpy as np
from numpy.typing import NDArray

MAX_TOTAL_VARIATION = 5e-4
"""What rounding may change a position's distribution by, tail included: with what `top_p` .9995
cuts off, a thousandth."""

_COARSEST = -3
_COARSER = np.arange(5.0, 0.0, -0.5)
"""Exponents of 2: of the largest step, and of what steps are tried to be larger by."""


def round_distributions(
    counts_t: NDArray[np.int32],
    logprobs: NDArray[np.float32],
    tail_logprobs_t: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """`logprobs` and `tail_logprobs_t` (docs/method.md#stored-distribution), rounded.

    Each is rounded to a multiple of a power of two, which is larger for smaller masses, so that
    each of a position's n ids and the tail changes its mass by about the same amount. No
    log-probability changes by more than a sixteenth, and no set of ids by more mass than
    `MAX_TOTAL_VARIATION`, both as stored and after scaling the masses to sum to 1. `-inf` stays.
    """
    positions = np.arange(len(counts_t))
    position_of = np.concatenate([np.repeat(positions, counts_t), positions])
    exact = np.concatenate([logprobs, tail_logprobs_t]).astype(np.float64)
    # With these steps, half of one at each of n buckets is exp(step / 2) - 1 of its mass: less than
    # .52 of the bound in all. As errors differ in size and sign, most positions bear larger ones.
    log2_shares_t = np.log2(MAX_TOTAL_VARIATION / (counts_t + 1))
    exponents = log2_shares_t[position_of] - exact / np.log(2.0)
    rounded = _rounded(exact, exponents)
    is_open_t = np.ones(len(counts_t), np.bool_)
    for coarser in _COARSER:
        tried = _rounded(exact, exponents + coarser)
        fits_t = is_open_t & (_variation(exact, tried, position_of) <= MAX_TOTAL_VARIATION)
        rounded = np.where(fits_t[position_of], tried, rounded)
        is_open_t &= ~fits_t
    return rounded[: len(logprobs)], rounded[len(logprobs) :]


def _rounded(exact: NDArray[np.float64], exponents: NDArray[np.float64]) -> NDArray[np.float32]:
    steps = np.exp2(np.minimum(np.floor(exponents), _COARSEST))
    with np.errstate(invalid="ignore"):
        rounded = np.where(np.isfinite(exact), np.round(exact / steps) * steps, exact)
    return rounded.astype(np.float32)


def _variation(
    before: NDArray[np.float64], after: NDArray[np.float32], position_of: NDArray[np.intp]
) -> NDArray[np.float64]:
    """The largest change in the mass of any set of a position's buckets."""
    changes = np.exp(after.astype(np.float64)) - np.exp(before)
    gained_t = np.bincount(position_of, np.maximum(changes, 0.0))
    return np.maximum(gained_t, gained_t - np.bincount(position_of, changes))
