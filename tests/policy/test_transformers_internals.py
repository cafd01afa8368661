"""Canaries: what `distil_core/policy/_internals.py` rests on is so in the installed transformers.

About 5 s, most of it importing transformers.
"""

from types import SimpleNamespace
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


def configuration(kind: str, **changes: Any) -> Any:
    from transformers import AutoConfig

    sizes = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2}
    return SimpleNamespace(config=AutoConfig.for_model(kind, **{**sizes, **changes}))


def rotations(rope_type: str) -> dict[str, Any]:
    return {"rope_type": rope_type, "rope_theta": 1e4, "factor": 2.0}


@pytest.mark.parametrize(
    ("model", "can"),
    [
        (configuration("llama"), True),
        (configuration("llama", rope_parameters=rotations("linear")), True),
        (configuration("qwen3"), True),
        (configuration("gpt2"), True),
        # What a token is rotated by depends on the tokens that it is read with.
        (configuration("llama", rope_parameters=rotations("dynamic")), False),
        # Windows, some or all; states; states beside keys and values.
        (configuration("mistral", sliding_window=8), False),
        (configuration("mistral", sliding_window=None), True),
        (configuration("gemma3_text"), False),
        (configuration("lfm2", layer_types=["conv", "full_attention"]), False),
        (configuration("qwen3_next", layer_types=["linear_attention", "full_attention"]), False),
    ],
)
def test_whether_a_past_can_be_taken_apart(model: Any, can: bool) -> None:
    assert _internals.can_begin_after_past(model) is can


@torch.no_grad()
def test_rows_begin_after_what_another_cache_held(model: Any) -> None:
    """The second row has its past two places further right than it was, and the first has none."""
    ids = torch.tensor([[3, 4, 5, 6, 7], [0, 0, 8, 9, 3]])
    own = torch.tensor([[True] * 5, [False] * 4 + [True]])
    before = _internals.growing_cache(model, max_rows=1, max_length=2)
    model(input_ids=ids[1:, 2:4], past_key_values=before, use_cache=True)
    cache = _internals.growing_cache(model, max_rows=2, max_length=6)
    past = _internals.row_past(before, 0, 2)
    _internals.begin_after(cache, [None, past], 5, own)
    assert cache.get_seq_length() == 0
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]])
    found = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=torch.tensor([[0, 1, 2, 3, 4], [0, 0, 0, 0, 2]]),
        past_key_values=cache,
        use_cache=True,
    ).logits[:, -1]
    for row, expected in ((ids[:1], found[0]), (ids[1:, 2:], found[1])):
        torch.testing.assert_close(model(input_ids=row).logits[0, -1], expected)
