"""Log-probabilities in as few digits as a bounded error allows, so that they compress well."""

import numpy as np
from numpy.typing import NDArray

MAX_TOTAL_VARIATION = 2.0**-10
"""What rounding may change a position's distribution by, tail included."""

_LARGEST_STEP = 2.0**-3


def round_distributions(
    counts_t: NDArray[np.int32],
    logprobs: NDArray[np.float32],
    tail_logprobs_t: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """`logprobs` and `tail_logprobs_t` (METHOD section 4), rounded.

    Each is a multiple of a power of two that is the larger the less mass it says: every one of a
    position's n ids and the tail may change by the same share of `MAX_TOTAL_VARIATION`, and no
    log-probability by more than a sixteenth. What is left of a position's mass differs from 1 by
    at most twice that bound. `-inf` stays.
    """
    buckets_t = counts_t + 1
    buckets = np.repeat(buckets_t, counts_t)
    return _rounded(logprobs, buckets), _rounded(tail_logprobs_t, buckets_t)


def _rounded(logprobs: NDArray[np.float32], num_buckets: NDArray[np.int32]) -> NDArray[np.float32]:
    # Half a step is the largest change: total variation is half the sum of all, over n buckets
    # p * step / 2 each. exp(step / 2) - 1 exceeds step / 2 by less than the margin of 2 kept here.
    exact = logprobs.astype(np.float64)
    allowed = 2 * MAX_TOTAL_VARIATION / num_buckets
    exponents = np.floor(np.log2(allowed) - exact / np.log(2.0))
    steps = np.minimum(np.exp2(np.minimum(exponents, 0.0)), _LARGEST_STEP)
    with np.errstate(invalid="ignore"):
        rounded = np.where(np.isfinite(exact), np.round(exact / steps) * steps, exact)
    return rounded.astype(np.float32)
