"""Packed rows: nothing is lost, nothing is computed twice."""

from hypothesis import given
from hypothesis import strategies as st

from distil_core.policy.batching import collate
from distil_core.policy.packing import first_fit_decreasing, pack

ROWS = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12)


@given(ROWS)
def test_each_token_is_computed_once_and_read_where_it_is_predicted(
    lengths: list[tuple[int, int]],
) -> None:
    # Every token of the batch is another number.
    next_id = iter(range(1, 10_000))
    contexts = [[next(next_id) for _ in range(context)] for context, _ in lengths]
    responses = [[next(next_id) for _ in range(response)] for _, response in lengths]
    batch = collate(contexts, responses, "cpu")
    rows = {context[0]: (context, response) for context, response in zip(contexts, responses)}  # noqa: B905
    found = []
    places = []
    for packed in pack(batch):
        ids, positions = packed.input_ids_gs[0].tolist(), packed.position_ids_gs[0].tolist()
        assert len(ids) <= 2 * max(map(sum, lengths))
        starts = [index for index, position in enumerate(positions) if position == 0]
        predicting = packed.predicting_n.tolist()
        response_ids = batch.response_ids_bt.flatten()[packed.places_n].tolist()
        assert [ids[index + 1] for index in predicting] == response_ids
        for start, end in zip(starts, [*starts[1:], len(ids)], strict=True):
            context, response = rows[ids[start]]
            assert ids[start:end] == [*context, *response]
            assert positions[start:end] == list(range(end - start))
            found.append(ids[start])
        places += packed.places_n.tolist()
    assert sorted(found) == sorted(rows)
    assert sorted(places) == batch.response_mask_bt.flatten().nonzero().squeeze(1).tolist()


@given(st.lists(st.integers(1, 20), min_size=1, max_size=40), st.integers(20, 60))
def test_bins_hold_everything_once_and_are_filled(lengths: list[int], capacity: int) -> None:
    bins = first_fit_decreasing(lengths, capacity)
    assert sorted(index for one in bins for index in one) == list(range(len(lengths)))
    filled = [sum(lengths[index] for index in one) for one in bins]
    assert max(filled) <= capacity
    # No two bins could be one.
    assert all(a + b > capacity for i, a in enumerate(filled) for b in filled[i + 1 :])
    assert bins == first_fit_decreasing(lengths, capacity)
