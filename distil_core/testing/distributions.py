"""What every stored distribution must be (docs/method.md#stored-distribution), whether an engine
gives it or an expert."""

import numpy as np

from distil_core.engines.base import ScoredResponse
from distil_core.testing.checks import require

_MASS_TOLERANCE = 1e-3


def require_distributions(
    scored: ScoredResponse, num_positions: int, top_k: int, top_p: float, vocabulary_size: int
) -> None:
    """Raise `CheckFailedError` unless there is one for each position: normalised with its tail,
    most likely ids first, the fewest that hold `top_p` and at most `top_k`; or none at all."""
    counts = np.asarray(scored.counts_t)
    tails = np.asarray(scored.tail_logprobs_t, dtype=np.float64)
    ids, logprobs = np.asarray(scored.token_ids), np.asarray(scored.logprobs, dtype=np.float64)
    require(
        counts.shape == tails.shape == (num_positions,),
        f"counts_t and tail_logprobs_t have {counts.shape} and {tails.shape} positions, the "
        f"response has {num_positions}",
    )
    require(
        ids.shape == logprobs.shape == (int(counts.sum()),),
        f"there are {ids.size} ids and {logprobs.size} log-probabilities, counts_t sums up to "
        f"{int(counts.sum())}",
    )
    require(
        not ids.size or (ids.min() >= 0 and ids.max() < vocabulary_size),
        f"ids lie outside of the vocabulary of {vocabulary_size}",
    )
    require(
        bool(np.isfinite(logprobs).all() and (logprobs <= 1e-6).all()),
        "log-probabilities of stored ids must be finite and at most 0",
    )
    starts = np.concatenate([[0], np.cumsum(counts)])
    for position in range(num_positions):
        part = slice(starts[position], starts[position + 1])
        _require_distribution(position, ids[part], logprobs[part], tails[position], top_k, top_p)


def _require_distribution(
    position: int,
    ids: np.ndarray[tuple[int, ...], np.dtype[np.int32]],
    logprobs: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    tail: float,
    top_k: int,
    top_p: float,
) -> None:
    if not ids.size and tail == -np.inf:
        return
    where = f"at position {position}"
    masses = np.exp(logprobs)
    total = masses.sum() + np.exp(tail)
    require(
        abs(total - 1.0) <= _MASS_TOLERANCE, f"{where} ids and tail have mass {total:.6g}, not 1"
    )
    require(ids.size <= top_k, f"{where} there are {ids.size} ids, top_k is {top_k}")
    require(len(set(ids.tolist())) == ids.size, f"{where} an id stands twice")
    require(bool((np.diff(logprobs) <= 1e-5).all()), f"{where} ids are not most likely first")
    held = masses[:-1].sum() if ids.size else 0.0
    require(
        held < top_p + _MASS_TOLERANCE,
        f"{where} fewer ids than the {ids.size} stored hold top_p {top_p}",
    )
