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
        gained, lost = (np.maximum(sign * (after - before), 0).sum() for sign in (1, -1))
        assert max(gained, lost) <= MAX_TOTAL_VARIATION
        scaled = after / after.sum() - before / before.sum()
        assert 0.5 * np.abs(scaled).sum() <= MAX_TOTAL_VARIATION + 1e-6
        assert np.all(np.diff(rounded[here]) <= 1 / 8), "the most likely first, to a step"
        start += count
    assert np.array_equal(np.isneginf(tails), np.isneginf(rounded_tails))
    assert np.all(np.abs(rounded - logprobs) <= 1 / 16 + 1e-5)


def test_a_certain_token_is_exact_and_few_digits_are_left_of_others() -> None:
    counts, tails = np.array([1, 2], np.int32), np.array([-math.inf, -0.7], np.float32)
    logprobs = np.array([0.0, -1.2345678, -3.3333333], np.float32)
    rounded, rounded_tails = round_distributions(counts, logprobs, tails)
    assert rounded[0] == 0.0
    assert np.all(rounded * 2**11 % 1 == 0)
    assert np.all(rounded_tails[1:] * 2**11 % 1 == 0)
    assert np.all(rounded[1:] != logprobs[1:])


def test_most_of_what_is_allowed_is_used() -> None:
    """No digits are kept that the bound does not ask for."""
    random = np.random.default_rng(0)
    positions = list(random.normal(0, 2, (500, 12)))
    counts, logprobs, tails = stored(positions, with_tail=True)
    rounded, _ = round_distributions(counts, logprobs, tails)
    changes = np.abs(np.exp(rounded) - np.exp(logprobs)).reshape(500, -1).sum(1)
    assert 0.6 * MAX_TOTAL_VARIATION < 0.5 * np.median(changes) < MAX_TOTAL_VARIATION


def test_nothing_to_round() -> None:
    empty = np.empty(0, np.float32)
    found = round_distributions(np.empty(0, np.int32), empty, empty)
    assert [len(part) for part in found] == [0, 0]
