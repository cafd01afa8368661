"""Decoding with shared prefill, growing storage, rows taken out, against plain passes (8 s)."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import MistralConfig, MistralForCausalLM
from transformers.cache_utils import DynamicLayer

from distil_core.engines._decoding import Decoder
from distil_core.engines.base import SampleRequest, SamplingSettings
from distil_core.engines.transformers import TransformersEngine
from distil_core.policy._internals import GrowingLayer
from distil_core.progress import no_progress

RANDOM = np.random.default_rng(4)


@torch.inference_mode()
def next_logits(model: Any, token_ids: list[int]) -> torch.Tensor:
    logits: torch.Tensor = model(torch.tensor([token_ids]), use_cache=False).logits[0, -1]
    return logits


def check(model: Any, decoder: Decoder, rows: list[list[int]]) -> None:
    expected = torch.stack([next_logits(model, row) for row in rows])
    torch.testing.assert_close(decoder.logits_rv, expected, rtol=0, atol=2e-5)


MAX_ROWS = 5
steps = st.lists(
    st.tuples(st.integers(0, 98), st.lists(st.integers(0, 30), min_size=1, max_size=MAX_ROWS)),
    max_size=6,
)


def step(decoder: Decoder, source: list[int], tokens: list[int]) -> None:
    decoder.step(np.array(source), np.array(tokens))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 98), min_size=1, max_size=9), min_size=1, max_size=4), steps
)
def test_every_row_is_as_if_alone(
    new_model: Any, contexts: list[list[int]], taken: list[tuple[int, list[int]]]
) -> None:
    model = new_model(3)
    with torch.inference_mode():
        decoder = Decoder(model, contexts, MAX_ROWS, max_new_tokens=6)
        rows = [list(context) for context in contexts]
        check(model, decoder, rows)
        for token, numbers in taken:
            source = [number % len(rows) for number in numbers]
            tokens = [(token + number) % 99 for number in range(len(source))]
            step(decoder, source, tokens)
            rows = [[*rows[row], token] for row, token in zip(source, tokens, strict=True)]
            check(model, decoder, rows)


def test_storage_grows_in_place_and_holds_what_was_written() -> None:
    growing, plain = GrowingLayer(max_rows=3, max_length=1000), DynamicLayer()
    generator = torch.Generator().manual_seed(0)
    storages = set()
    for length in (3, *[1] * 150):
        keys, values = torch.randn(2, 2, 4, length, 8, generator=generator)
        for found, expected in zip(
            growing.update(keys, values), plain.update(keys, values), strict=True
        ):
            assert torch.equal(found, expected)
        storages.add(growing.keys.untyped_storage().data_ptr())
        assert growing.get_seq_length() == plain.get_seq_length()
    assert len(storages) < 6
    for layer in (growing, plain):
        layer.batch_select_indices(torch.tensor([1, 1, 0]))
    assert growing.keys.untyped_storage().data_ptr() in storages
    assert torch.equal(growing.keys, plain.keys)
    for layer in (growing, plain):
        layer.update(torch.ones(3, 4, 1, 8), torch.zeros(3, 4, 1, 8))
    assert torch.equal(growing.keys, plain.keys)
    assert torch.equal(growing.values, plain.values)


def test_storage_is_no_longer_than_rows_may_become() -> None:
    layer = GrowingLayer(max_rows=4, max_length=8)
    for length in (5, 1, 1, 1):
        layer.update(*torch.zeros(2, 3, 2, length, 8))
    assert layer.keys.untyped_storage().nbytes() == 4 * 2 * 8 * 8 * 4


def test_a_sliding_window_keeps_its_own_cache() -> None:
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=99,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        sliding_window=4,
        bos_token_id=None,
        eos_token_id=1,
    )
    model = MistralForCausalLM(config).eval()
    contexts = [RANDOM.integers(0, 99, 6).tolist(), RANDOM.integers(0, 99, 3).tolist()]
    with torch.inference_mode():
        decoder = Decoder(model, contexts, max_rows=3, max_new_tokens=5)
        rows = contexts
        for token in (5, 6, 7, 8, 9):
            check(model, decoder, rows)
            source = [0, 0, 1] if len(rows) == 2 else [2, 1, 0]
            step(decoder, source, [token, token + 1, token + 2])
            rows = [[*rows[row], token + number] for number, row in enumerate(source)]
        check(model, decoder, rows)


def test_what_requests_have_in_common_is_computed_once(
    new_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = new_model(7)
    with torch.no_grad():
        model.get_input_embeddings().weight[1] *= 2.5
        model.get_input_embeddings().weight *= 1.5
    shapes = []
    forward = model.forward

    def seen(*args: Any, **kwargs: Any) -> Any:
        shapes.append(tuple(kwargs["input_ids"].shape))
        return forward(*args, **kwargs)

    monkeypatch.setattr(model, "forward", seen)
    contexts = RANDOM.integers(3, 99, (4, 9)).tolist()
    asked = [SampleRequest(contexts[i % 4], i // 8) for i in range(256)]
    responses = TransformersEngine(model, [1], 256).sample(
        asked, SamplingSettings(30, 0.3, 1.0), no_progress
    )
    assert shapes[0] == (4, 9)
    assert all(columns == 1 for _, columns in shapes[1:])
    written = [
        (tuple(request.context_ids), *response.token_ids)
        for request, response in zip(asked, responses, strict=True)
    ]
    needed = [
        len({row[: step + 1] for row in written if len(row) > step + 1}) for step in range(1, 30)
    ]
    going = [sum(len(row) > step + 1 for row in written) for step in range(1, 30)]
    for (rows, _), least in zip(shapes[1:], needed, strict=False):
        assert least <= rows <= max(least / 0.75 + 1, 1)
    assert len(shapes) == max(len(row.token_ids) for row in responses)
    assert sum(rows for rows, _ in shapes[1:]) < sum(going) / 2
    # Rows that ended are taken out.
    assert min(rows for rows, _ in shapes) < max(rows for rows, _ in shapes) / 4
