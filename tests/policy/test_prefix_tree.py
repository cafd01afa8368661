"""Rows as trees: every token sees its own row, and what rows begin with alike is there once."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distil_core.policy import prefix_tree
from distil_core.policy.batching import collate
from distil_core.policy.prefix_tree import prefix_trees
from distil_core.policy.sequences import Sequences, predicted_hidden, predicted_logits

# Of two tokens, so that rows have much in common.
TOKENS = st.lists(st.integers(5, 6), min_size=1, max_size=8)
ROWS = st.lists(st.tuples(TOKENS, TOKENS), min_size=1, max_size=16)


def seen(trees: Sequences, place: int) -> list[int]:
    """The tokens on the path to a place, in the order of their positions."""
    assert trees.sees_gss is not None
    sequence, index = divmod(place, trees.input_ids_gs.shape[1])
    on_path = trees.sees_gss[sequence, index]
    positions = trees.position_ids_gs[sequence][on_path].tolist()
    assert sorted(positions) == list(range(len(positions)))
    ids = trees.input_ids_gs[sequence][on_path].tolist()
    return [token for _, token in sorted(zip(positions, ids, strict=True))]


@given(ROWS, st.sampled_from([1, 4]))
def test_each_response_token_is_predicted_from_its_own_row(
    rows: list[tuple[list[int], list[int]]], longest_rows: int
) -> None:
    batch = collate(*zip(*rows, strict=True), "cpu")  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix_tree, "LONGEST_ROWS_PER_TREE", longest_rows)
        patch.setattr(prefix_tree, "_SHORT", 1)
        trees = prefix_trees(batch)
    width = batch.response_ids_bt.shape[1]
    assert sorted(trees.places_n.tolist()) == (
        batch.response_mask_bt.flatten().nonzero().squeeze(1).tolist()
    )
    for place, predicting in zip(trees.places_n.tolist(), trees.predicting_n.tolist(), strict=True):
        context, response = rows[place // width]
        assert seen(trees, predicting) == [*context, *response[: place % width]]
    longest = max(len(context) + len(response) - 1 for context, response in rows)
    assert trees.input_ids_gs.shape[1] <= longest * max(2, longest_rows)


@given(TOKENS, st.lists(TOKENS, min_size=2, max_size=6))
def test_what_is_shared_is_there_once(context: list[int], responses: list[list[int]]) -> None:
    """In one tree, as every row shares half of itself or more, and the tree stays small."""
    context = context * 8
    batch = collate([context] * len(responses), responses, "cpu")
    trees = prefix_trees(batch)
    rows = [(*context, *response[:-1]) for response in responses]
    distinct = {row[:end] for row in rows for end in range(1, len(row) + 1)}
    assert trees.input_ids_gs.shape == (1, len(distinct))


def test_rows_of_nothing_in_common_fill_sequences() -> None:
    contexts = [[10 * row + 1] * 3 for row in range(9)]
    trees = prefix_trees(collate(contexts, [[1, 2]] * 9, "cpu"))
    assert trees.input_ids_gs.shape == (1, 9 * 4)
    assert trees.sees_gss is not None
    assert trees.sees_gss.sum() == 9 * (1 + 2 + 3 + 4)


def test_what_fills_a_sequence_up_sees_itself(new_model: Any) -> None:
    """Attention to nothing would not be a number."""
    contexts = [[1, 2, 3, 4], [5, 6], [7, 8, 9]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix_tree, "_SHORT", 1)
        trees = prefix_trees(collate(contexts, [[3, 4, 5], [3], [2]], "cpu"))
    assert trees.sees_gss is not None
    assert trees.sees_gss.any(-1).all()
    assert trees.input_ids_gs.shape == (1, 11)
    assert torch.isfinite(predicted_logits(new_model(0), trees)).all()


def test_the_head_reads_what_the_logits_are_made_of(new_model: Any) -> None:
    model = new_model(0).double()
    contexts = [[7, 8, 9, 4], [7, 8, 9, 4], [3, 5]]
    trees = prefix_trees(collate(contexts, [[3, 4, 5], [3, 6], [2]], "cpu"))
    hidden_nd = predicted_hidden(model, trees)
    torch.testing.assert_close(model.lm_head(hidden_nd), predicted_logits(model, trees))
