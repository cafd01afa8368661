"""What is lost between the K ids and the tail in float64 and what a feedback table gives back."""

import numpy as np
from numpy.typing import NDArray

from benchmarks.feedback_table.distributions import VOCABULARY_SIZE, Distributions
from distil_core.seeds import generator
from distil_core.tables.schemas import FeedbackTableRow

NUM_GRADIENTS = 200


def errors(found: Distributions, rows: list[FeedbackTableRow]) -> dict[str, float]:
    """Mean and largest total variation, on the K ids and the tail; and of the gradient of forward
    cross-entropy with respect to the student's logits over the whole vocabulary: the norm of its
    change relative to its own, over the first positions."""
    stored_nk, tails_n = _as_stored(found, rows)
    changes_n = np.abs(stored_nk - np.exp(found.logprobs_nk)).sum(1)
    variation_n = 0.5 * (changes_n + np.abs(tails_n - found.tails_n))
    return {
        "variation_mean": float(variation_n.mean()),
        "variation_max": float(variation_n.max()),
        "gradient": _gradient_error(found, stored_nk, tails_n),
    }


def _as_stored(
    found: Distributions, rows: list[FeedbackTableRow]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mass on each of the K ids, zero where it is not kept, and on the tail."""
    counts_n = np.concatenate([row.expert_counts for row in rows])
    logprobs = np.concatenate([row.expert_logprobs for row in rows]).astype(np.float64)
    tails_n = np.concatenate([row.expert_tail_logprobs for row in rows]).astype(np.float64)
    stored_nk = np.zeros_like(found.logprobs_nk)
    stored_nk[np.arange(stored_nk.shape[1]) < counts_n[:, None]] = np.exp(logprobs)
    return stored_nk, np.exp(tails_n)


def _gradient_error(
    found: Distributions, stored_nk: NDArray[np.float64], tails_n: NDArray[np.float64]
) -> float:
    random = generator(0, "benchmark", "student")
    changed, whole = 0.0, 0.0
    for n in range(min(NUM_GRADIENTS, len(tails_n))):
        # Distinct ids, as in a real table.
        ids = random.permutation(VOCABULARY_SIZE)[: stored_nk.shape[1]]
        logits = random.normal(0, 1, VOCABULARY_SIZE) - 12
        logits[ids] = 0.8 * found.logprobs_nk[n] + random.normal(0, 1, len(ids))
        student = np.exp(logits - np.logaddexp.reduce(logits))
        exact = _gradient(student, ids, np.exp(found.logprobs_nk[n]), found.tails_n[n])
        kept = stored_nk[n] > 0
        read = _gradient(student, ids[kept], stored_nk[n][kept], tails_n[n])
        changed += float(np.square(read - exact).sum())
        whole += float(np.square(exact).sum())
    return float(np.sqrt(changed / whole))


def _gradient(
    student: NDArray[np.float64], ids: NDArray[np.int64], mass: NDArray[np.float64], tail: float
) -> NDArray[np.float64]:
    """Of -sum over K + 1 buckets of mass log student, with respect to the student's logits."""
    target = student * tail / (1 - student[ids].sum())
    target[ids] = mass
    return student * target.sum() - target
