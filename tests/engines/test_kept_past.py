"""Keys and values of rows by their tokens: what is found, what is dropped, what is freed (2 s)."""

import weakref

import torch
from hypothesis import given
from hypothesis import strategies as st

from distil_core.engines._kept_past import KeptPast, Past

LAYERS, HEADS, SIZE = 3, 2, 4
TOKEN_BYTES = 2 * LAYERS * HEADS * SIZE * 4


def past(token_ids: list[int]) -> Past:
    """Keys that tell the token and values that tell its place, all views."""
    numbers = torch.tensor(token_ids, dtype=torch.float32)[None, :, None]
    places = torch.arange(len(token_ids), dtype=torch.float32)[None, :, None]
    return Past(
        tuple(
            (numbers.expand(HEADS, -1, SIZE), places.expand(HEADS, -1, SIZE)) for _ in range(LAYERS)
        )
    )


rows = st.lists(st.integers(0, 2), min_size=1, max_size=8)


@given(st.lists(st.tuples(rows, rows), max_size=30), st.integers(0, 30))
def test_it_holds_no_more_than_its_bound_and_only_what_was_added(
    steps: list[tuple[list[int], list[int]]], max_tokens: int
) -> None:
    kept = KeptPast(max_tokens * TOKEN_BYTES)
    added: list[list[int]] = []
    for one, asked in steps:
        kept.add(one, past(one))
        added.append(one)
        pasts = list(kept._past_of.values())
        assert kept.num_bytes == sum(held.num_bytes for held in pasts)
        # No views: what is dropped is freed, and nothing else is held with what is kept.
        storages = [each.untyped_storage() for p in pasts for layer in p.layers for each in layer]
        assert sum(storage.nbytes() for storage in storages) == kept.num_bytes
        assert kept.num_bytes <= max_tokens * TOKEN_BYTES
        length = kept.length(asked)
        assert length < len(asked)
        assert length == 0 or any(row[:length] == asked[:length] for row in added)
        found = kept.find(asked, length)
        assert (found.num_tokens if found else 0) == length
        if found:
            for keys, values in found.layers:
                assert keys[0, :, 0].tolist() == asked[:length]
                assert values[1, :, 3].tolist() == list(range(length))
        if len(one) <= max_tokens:
            assert kept.length([*one, 0]) == len(one)


def test_what_was_not_used_for_longest_goes_first() -> None:
    kept = KeptPast(6 * TOKEN_BYTES)
    for row in ([1, 1], [2, 2], [3, 3]):
        kept.add(row, past(row))
    assert kept.find([1, 1, 5], 2) is not None
    # Not kept a second time, but used.
    kept.add([3], past([3]))
    kept.add([4, 4], past([4, 4]))
    assert [kept.length([n, n, 5]) for n in (1, 2, 3, 4)] == [2, 0, 2, 2]
    kept.add([5] * 6, past([5] * 6))
    assert [kept.length([n] * 7) for n in (1, 2, 3, 4, 5)] == [0, 0, 0, 0, 6]
    # One that would never fit drops nothing.
    kept.add([6] * 7, past([6] * 7))
    assert kept.length([5] * 7) == 6


def test_a_row_has_the_place_of_what_it_continues() -> None:
    kept = KeptPast(4 * TOKEN_BYTES)
    kept.add([1], past([1]))
    kept.add([2, 2], past([2, 2]))
    kept.add([1, 1], past([1, 1]))
    assert kept.num_bytes == 4 * TOKEN_BYTES
    assert (kept.length([2, 2, 2]), kept.length([1, 1, 1])) == (2, 2)
    found = kept.find([1, 1, 1], 1)
    assert found is not None
    assert found.num_tokens == 1


def test_nothing_is_held_after_it_is_closed() -> None:
    kept = KeptPast(100 * TOKEN_BYTES)
    kept.add([1, 2], past([1, 2]))
    (held,) = kept._past_of.values()
    tensor = weakref.ref(held.layers[0][0])
    del held
    kept.close()
    assert tensor() is None
    kept.add([1, 2], past([1, 2]))
    assert (kept.num_bytes, kept.length([1, 2, 3]), kept.find([1, 2, 3], 2)) == (0, 0, None)
