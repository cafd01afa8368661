"""Which rows a decoder goes on with (1 s)."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from distil_core.engines._rows import next_rows


@given(st.integers(1, 9), st.data())
def test_rows_after_any_draws(num_rows: int, data: st.DataObject) -> None:
    standing = st.tuples(st.integers(0, num_rows - 1), st.integers(0, 4))
    draws = data.draw(st.lists(standing, min_size=1, max_size=20))
    row_a, token_a = np.array(draws).T
    rows = next_rows(row_a, token_a, num_rows)
    assert len(rows.source_r) == len(rows.token_r)
    # Every request goes on from where it stood, by its own token.
    assert rows.source_r[rows.row_a].tolist() == row_a.tolist()
    assert rows.token_r[rows.row_a].tolist() == token_a.tolist()
    # Two requests stand at one row exactly where they stood at one and drew the same.
    assert len(set(rows.row_a.tolist())) == len(set(draws))
    # No row lies where none has been, but those that are needed there.
    live = len(set(draws))
    assert len(rows.source_r) in (live, max(live, num_rows))
    assert (rows.source_r < num_rows).all()
    # A row whose requests drew something stays where it is, unless rows are taken out.
    if len(rows.source_r) >= num_rows:
        assert rows.source_r[row_a].tolist() == row_a.tolist()


def test_few_ended_rows_stay_and_many_are_taken_out() -> None:
    stay = next_rows(np.array([0, 1, 3, 4]), np.array([7, 7, 7, 7]), 5)
    assert stay.source_r.tolist() == [0, 1, 2, 3, 4]
    assert stay.token_r.tolist() == [7, 7, 0, 7, 7]
    taken_out = next_rows(np.array([0, 3, 4]), np.array([7, 8, 9]), 5)
    assert taken_out.source_r.tolist() == [0, 3, 4]
    assert taken_out.token_r.tolist() == [7, 8, 9]
    assert taken_out.row_a.tolist() == [0, 1, 2]


def test_a_second_token_of_a_row_takes_the_place_of_one_that_ended() -> None:
    rows = next_rows(np.array([0, 0, 2, 2]), np.array([5, 6, 5, 6]), 3)
    assert rows.source_r.tolist() == [0, 0, 2, 2]
    assert rows.token_r.tolist() == [5, 6, 5, 6]
    assert rows.row_a.tolist() == [0, 1, 2, 3]
