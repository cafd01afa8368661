"""Which server is asked again (1 s)."""

from hypothesis import given
from hypothesis import strategies as st

from distil_core.engines.vllm.places import Places

sequences = st.lists(st.integers(0, 2), min_size=1, max_size=6)


@given(st.lists(sequences, max_size=12), sequences)
def test_it_is_the_one_that_knows_most_of_what_it_was_asked(
    remembered: list[list[int]], asked: list[int]
) -> None:
    places: Places[int] = Places()
    for number, token_ids in enumerate(remembered):
        places.remember(token_ids, number)
    # What another goes on from has given its place to that one.
    last = [
        one for one in remembered if not any(o != one and o[: len(one)] == one for o in remembered)
    ]
    known = [one for one in last if asked[: len(one)] == one]
    found = places.find(asked)
    assert (found is None) == (not known)
    if found is not None:
        assert remembered[found] == max(known, key=len)


def test_whoever_only_knows_the_problem_is_not_meant() -> None:
    places: Places[str] = Places()
    places.remember([1, 2, 3, 4], "first")
    places.remember([1, 2, 5, 6], "second")
    assert places.find([1, 2, 5, 6, 9]) == "second"
    assert places.find([1, 2, 7]) is None
    assert Places[str]().find([1]) is None
