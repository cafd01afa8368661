"""Probability masses on a few tokens at each state, in the form of the feedback tables."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from distil_core.engines.base import ScoredResponse


def scored_labels(
    states: Sequence[Mapping[int, float]],
    label_smoothing: float,
    vocabulary_size: int,
    top_k: int,
    top_p: float,
) -> ScoredResponse:
    """The distribution of each state's masses by token id, which sum to 1; no masses where the
    expert is silent.

    label_smoothing: the share of mass spread evenly over the whole vocabulary. Stored are the
    fewest ids that hold `top_p`, at most `top_k` (docs/method.md#stored-distribution). Ids with
    mass from smoothing only are left in the tail, where they are all alike.
    """
    counts, ids, logprobs, tails = [], [], [], []
    for state in states:
        even = label_smoothing / vocabulary_size
        smoothed = {token: (1.0 - label_smoothing) * mass + even for token, mass in state.items()}
        ranked = sorted(smoothed.items(), key=lambda entry: (-entry[1], entry[0]))
        num_kept, held = 0, 0.0
        while num_kept < min(top_k, len(ranked)) and (held < top_p or top_p >= 1.0):
            held += ranked[num_kept][1]
            num_kept += 1
        rest = [mass for _, mass in ranked[num_kept:]]
        unseen = even * (vocabulary_size - len(state)) if state else 0.0
        tail = math.fsum([*rest, unseen])
        counts.append(num_kept)
        ids += [token for token, _ in ranked[:num_kept]]
        logprobs += [math.log(mass) for _, mass in ranked[:num_kept]]
        tails.append(math.log(tail) if tail > 0.0 else -math.inf)
    return ScoredResponse(
        counts_t=np.array(counts, dtype=np.int32),
        token_ids=np.array(ids, dtype=np.int32),
        logprobs=np.array(logprobs, dtype=np.float32),
        tail_logprobs_t=np.array(tails, dtype=np.float32),
    )
