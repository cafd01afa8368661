"""Rounded distributions stay within the bound, whatever they were (1 s)."""

import math
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from distil_core.tables.rounding import MAX_TOTAL_VARIATION, round_distributions

LOGITS = st.lists(st.floats(-40, 40), min_size=1, max_size=40)


def stored(positions: list[list[float]], with_tail: bool) -> Any:
    counts, logprobs, tails = [], [], []
    for logits in positions:
        values = np.array(logits, np.float64)
        values = np.sort(values - np.logaddexp.reduce(values))[::-1]
        kept = values[:-1] if with_tail and len(values) > 1 else values
        counts.append(len(kept))
        logprobs.append(kept)
        tails.append(values[-1] if len(kept) < len(values) else -math.inf)
    return (
        np.array(counts, np.int32),
        np.concatenate(logprobs).astype(np.float32),
        np.array(tails, np.float32),
    )


@given(st.lists(LOGITS, min_size=1, max_size=6), st.booleans())
@settings(deadline=None, max_examples=200, derandomize=True)
def test_within_the_bound_at_every_position(positions: list[list[float]], with_tail: bool) -> None:
    counts, logprobs, tails = stored(positions, with_tail)
    rounded, rounded_tails = round_distributions(counts, logprobs, tails)
    assert rounded.dtype == rounded_tails.dtype == np.float32
    start = 0
    for position, count in enumerate(counts):
        here = slice(start, start + count)
        before = np.exp(np.append(logprobs[here], tails[position]).astype(np.float64))
        after = np.exp(np.append(rounded[here], rounded_tails[position]).astype(np.float64))
        assert 0.5 * np.abs(after - before).sum() <= MAX_TOTAL_VARIATION
        assert np.all(np.diff(rounded[here]) <= 1 / 8), "the most likely first, to a step"
        start += count
    assert np.array_equal(np.isneginf(tails), np.isneginf(rounded_tails))
    assert np.all(np.abs(rounded - logprobs) <= 1 / 16 + 1e-5)


def test_a_certain_token_is_exact_and_rounding_again_changes_nothing() -> None:
    counts, tails = np.array([1, 2], np.int32), np.array([-math.inf, -0.7], np.float32)
    logprobs = np.array([0.0, -1.2345678, -3.3333333], np.float32)
    once = round_distributions(counts, logprobs, tails)
    assert once[0][0] == 0.0
    assert np.array_equal(once[0], round_distributions(counts, *once)[0])
    # A handful of binary digits are left of it.
    assert np.all(once[0].view(np.uint32) % 2**8 == 0)


def test_nothing_to_round() -> None:
    empty = np.empty(0, np.float32)
    found = round_distributions(np.empty(0, np.int32), empty, empty)
    assert [len(part) for part in found] == [0, 0]
