"""Canaries: what `distil_core/policy/_internals.py` rests on is so in the installed transformers.

About 5 s, most of it importing transformers.
"""

from typing import Any

import pytest
import torch

from distil_core.policy import _internals


@pytest.fixture
def model(new_model: Any) -> Any:
    return new_model(3)


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
def test_the_kernel_is_the_one_that_was_asked_for(model: Any, kernel: str) -> None:
    model.set_attn_implementation(kernel)
    assert _internals.attention_kernel(model) == kernel


@torch.no_grad()
@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
def test_a_mask_of_four_axes_is_all_that_decides_what_is_seen(model: Any, kernel: str) -> None:
    """Two rows beside each other in one sequence are computed as if each were alone; and a token
    may see later ones, which a model's own mask would hide."""
    model.set_attn_implementation(kernel)
    rows = torch.tensor([[3, 5, 7], [4, 6, 8]])
    alone = model(input_ids=rows).logits
    sees = torch.block_diag(*[torch.ones(3, 3).tril()] * 2)[None] > 0
    beside = model(
        input_ids=rows.reshape(1, 6),
        position_ids=torch.tensor([[0, 1, 2] * 2]),
        attention_mask=_internals.own_mask(sees, model.dtype),
    ).logits
    torch.testing.assert_close(beside.reshape(alone.shape), alone)
    everything = model(
        input_ids=rows, attention_mask=_internals.own_mask(torch.ones(2, 3, 3) > 0, model.dtype)
    ).logits
    assert (everything[:, 0] - alone[:, 0]).abs().max() > 1e-3


@torch.no_grad()
def test_a_growing_cache_computes_what_the_model_alone_does(model: Any) -> None:
    """Token by token, past its first room, with rows that change places and one that ends."""
    ids = torch.randint(3, 9, (3, 50), generator=torch.Generator().manual_seed(0))
    cache = _internals.growing_cache(model, max_rows=4, max_length=50)
    assert len(cache.layers) == model.config.num_hidden_layers
    order = torch.arange(3)
    for position in range(50):
        if position == 20:
            order = torch.tensor([2, 0, 2, 1])
            cache.batch_select_indices(order)
        if position == 40:
            order = torch.tensor([2, 1])
            cache.batch_select_indices(torch.tensor([0, 3]))
        found = model(
            input_ids=ids[order, position : position + 1], past_key_values=cache, use_cache=True
        ).logits[:, -1]
        assert cache.get_seq_length() == position + 1
    expected = model(input_ids=ids, use_cache=False).logits[:, -1]
    torch.testing.assert_close(found, expected[order])


def test_keys_and_values_are_written_in_place(model: Any) -> None:
    cache = _internals.growing_cache(model, max_rows=2, max_length=40)
    places = []
    with torch.no_grad():
        for _ in range(3):
            model(input_ids=torch.tensor([[4], [5]]), past_key_values=cache, use_cache=True)
            places.append([layer.keys.untyped_storage().data_ptr() for layer in cache.layers])
    assert places == [places[0]] * 3
