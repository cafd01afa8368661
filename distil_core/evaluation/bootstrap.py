"""Bootstrap over problems: how far a figure would move with other problems of the same kind.

All figures of an evaluation use the same resamples, so that differences between figures, and
between policies evaluated on the same problems, are resampled in pairs.
"""

import numpy as np
from numpy.typing import NDArray

from distil_core.seeds import generator

_TAILS = (0.025, 0.975)
_DRAWS_AT_ONCE = 2**21


def resampled_means(
    values_pm: NDArray[np.float64], num_bootstrap: int, seed: int
) -> NDArray[np.float64]:
    """Means over problems of each column, float64 [num_bootstrap, M], one row for each resample.

    values_pm: float64 [P, M]. A resample draws P problems with replacement. Memory holds a few
    million draws at a time, whatever P is.
    """
    num_problems = len(values_pm)
    random = generator(seed, "bootstrap")
    means_bm = np.empty((num_bootstrap, values_pm.shape[1]))
    at_once = max(1, _DRAWS_AT_ONCE // num_problems)
    for start in range(0, num_bootstrap, at_once):
        size = min(at_once, num_bootstrap - start)
        drawn_bp = random.integers(0, num_problems, (size, num_problems))
        drawn_bp += np.arange(size)[:, None] * num_problems
        counts_bp = np.bincount(drawn_bp.ravel(), minlength=size * num_problems)
        counts_bp = counts_bp.reshape(size, num_problems).astype(np.float64)
        # Not `@`: the last bits of a BLAS sum depend on the number of threads.
        sums_bm = np.einsum("bp,pm->bm", counts_bp, values_pm, optimize=False)
        means_bm[start : start + size] = sums_bm / num_problems
    return means_bm


def interval(resampled_b: NDArray[np.float64]) -> tuple[float, float]:
    """The 95% percentile interval of a figure, from its value on each resample.

    The interval has no width where all problems have the same value: it describes the choice of
    problems, and says nothing about rare failures that none of them showed.
    """
    low, high = np.quantile(resampled_b, _TAILS)
    return float(low), float(high)
