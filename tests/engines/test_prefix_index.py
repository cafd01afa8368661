"""Sequences found by what others begin with, against a search through all of them (2 s)."""

from hypothesis import given
from hypothesis import strategies as st

from distil_core.engines._prefix_index import PrefixIndex, key_of

sequences = st.lists(st.sampled_from([0, 1, 255, 256, 2**31]), max_size=6).map(tuple)


def number_shared(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    count = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        count += 1
    return count


@given(st.lists(sequences.filter(len), max_size=20), st.lists(sequences, max_size=10), st.data())
def test_it_finds_what_a_search_through_all_finds(
    added: list[tuple[int, ...]], asked: list[tuple[int, ...]], data: st.DataObject
) -> None:
    index, present = PrefixIndex(), set[tuple[int, ...]]()
    for one in added:
        continuing = {other for other in present if other[: len(one)] == one}
        assert (index.covers(key_of(one)) is not None) == bool(continuing)
        if continuing:
            assert index.covers(key_of(one)) in {key_of(other) for other in continuing}
            continue
        continued = {other for other in present if one[: len(other)] == other}
        replaced = index.add(key_of(one))
        assert {replaced} - {None} == {key_of(other) for other in continued}
        present = (present - continued) | {one}
        if data.draw(st.booleans()):
            gone = data.draw(st.sampled_from(sorted(present)))
            index.remove(key_of(gone))
            present.remove(gone)
    for one in [*asked, *added]:
        key, length = index.longest(key_of(one))
        assert length == max((number_shared(one, other) for other in present), default=0)
        if length:
            assert key[: 4 * length] == key_of(one[:length])
            assert key in {key_of(other) for other in present}


def test_keys_sort_as_their_ids() -> None:
    ids = [(), (1,), (1, 0), (1, 255), (1, 256), (1, 2**31), (2,), (256,)]
    assert sorted(ids, key=key_of) == sorted(ids)
