"""Batches made by a thread beside the step that computes (1 s)."""

import threading
import time
from collections.abc import Iterator

import pytest

from distil_core.training.prefetching import Prefetcher


def numbers(made: list[int]) -> Iterator[int]:
    for number in range(3):
        made.append(number)
        yield number


def test_a_batch_is_made_when_it_is_started_or_taken_and_not_before() -> None:
    made: list[int] = []
    with Prefetcher(numbers(made)) as batches:
        time.sleep(0.05)
        assert made == []
        assert batches.next_batch() == 0
        time.sleep(0.05)
        assert made == [0]
        batches.prefetch()
        batches.prefetch()
        for _ in range(100):
            if made == [0, 1]:
                break
            time.sleep(0.01)
        assert made == [0, 1]
        assert [batches.next_batch(), batches.next_batch()] == [1, 2]
        with pytest.raises(IndexError, match="no batch is left"):
            batches.next_batch()


def test_what_making_one_raises_is_raised_where_it_is_taken() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("disk full")

    with Prefetcher(broken()) as batches:
        assert batches.next_batch() == 1
        batches.prefetch()
        with pytest.raises(OSError, match="disk full"):
            batches.next_batch()


def test_all_are_made_by_one_thread_which_ends_with_the_block() -> None:
    def threads() -> Iterator[threading.Thread]:
        while True:
            yield threading.current_thread()

    with Prefetcher(threads()) as batches:
        first, second = batches.next_batch(), batches.next_batch()
    assert first is second is not threading.current_thread()
    assert not first.is_alive()
