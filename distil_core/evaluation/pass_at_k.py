"""Unbiased pass@k (docs/method.md#evaluation)."""

import numpy as np
from numpy.typing import NDArray


def powers_of_two_up_to(num_samples: int) -> list[int]:
    """1, 2, 4 .. and `num_samples` itself."""
    ks = [2**i for i in range(num_samples.bit_length()) if 2**i <= num_samples]
    return ks if ks[-1] == num_samples else [*ks, num_samples]


def pass_at_k(num_correct_p: NDArray[np.int64], num_samples: int, k: int) -> NDArray[np.float64]:
    """1 - C(n - c, k) / C(n, k) for each problem: the chance that k of its n samples, drawn without
    replacement, include a correct one. Computed as a product, which is exact where C(n, k)
    overflows."""
    if not 1 <= k <= num_samples:
        raise ValueError(f"pass@k needs 1 <= k <= num_samples, found k={k}, n={num_samples}")
    wrong_p1 = (num_samples - num_correct_p).astype(np.float64)[:, None]
    drawn_k = np.arange(k, dtype=np.float64)
    return 1.0 - np.prod(np.maximum(wrong_p1 - drawn_k, 0.0) / (num_samples - drawn_k), axis=1)
