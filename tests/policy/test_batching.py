"""One padded batch gives what each row gives alone (2 s)."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from distil_core.policy.batching import collate, response_logits

ids = st.integers(0, 98)
rows = st.lists(
    st.tuples(st.lists(ids, min_size=1, max_size=7), st.lists(ids, min_size=1, max_size=5)),
    min_size=1,
    max_size=6,
)


def test_contexts_are_padded_left_and_responses_right() -> None:
    batch = collate([[5, 6, 7], [8]], [[9], [10, 11]], "cpu")
    assert batch.input_ids_bs.tolist() == [[5, 6, 7, 9, 0], [0, 0, 8, 10, 11]]
    assert batch.attention_mask_bs.tolist() == [[1, 1, 1, 1, 0], [0, 0, 1, 1, 1]]
    assert batch.position_ids_bs.tolist() == [[0, 1, 2, 3, 3], [0, 0, 0, 1, 2]]
    assert batch.response_ids_bt.tolist() == [[9, 0], [10, 11]]
    assert batch.response_mask_bt.tolist() == [[True, False], [True, True]]


def test_responses_may_be_empty() -> None:
    batch = collate([[5], [6, 7]], [[], []], "cpu")
    assert batch.response_ids_bt.shape == (2, 0)
    assert batch.input_ids_bs.tolist() == [[0, 5], [6, 7]]


@given(rows)
@hypothesis_settings(deadline=None, max_examples=25, derandomize=True)
def test_logits_are_those_of_each_row_alone(
    new_model: Any, rows: list[tuple[list[int], list[int]]]
) -> None:
    """Against a plain forward pass without padding, mask, positions or our slicing."""
    model = new_model()
    batch = collate([context for context, _ in rows], [response for _, response in rows], "cpu")
    with torch.inference_mode():
        logits_btv = response_logits(model, batch)
        for row, (context, response) in enumerate(rows):
            plain = model(torch.tensor([context + response])).logits[0]
            expected = plain[len(context) - 1 : -1]
            torch.testing.assert_close(logits_btv[row, : len(response)], expected)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_padding_is_finite_in_value_and_gradient(new_model: Any, implementation: str) -> None:
    """A row of padding attends to nothing, which must not become NaN anywhere."""
    model = new_model()
    model.set_attn_implementation(implementation)
    batch = collate([[5] * 20, [6]], [[7], [8, 9, 10]], "cpu")
    logits = response_logits(model, batch)
    assert torch.isfinite(logits).all()
    logits[batch.response_mask_bt].logsumexp(-1).sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
