"""Packed rows have the padded rows' log-probabilities and gradients (15 s)."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_micro_batches import OBJECTIVES_UNDER_TEST
from training_rows import as_rows, make_table

from distil_core.config.models import TrainParams
from distil_core.errors import TrainingError
from distil_core.objectives import OBJECTIVES
from distil_core.policy.batching import collate
from distil_core.policy.packing import first_fit_decreasing, pack
from distil_core.progress import no_progress
from distil_core.training import trainer
from distil_core.training.feedback_rows import FeedbackRows
from distil_core.training.packing_check import require_packable
from distil_core.training.student_logprobs import student_logprobs


@pytest.fixture(scope="module")
def rows(new_model: Any) -> FeedbackRows:
    """Contexts of 1 to 17 tokens."""
    table = make_table(new_model)
    for index, row in enumerate(table):
        row["context_ids"] = (row["context_ids"] * 4)[: 1 + 7 * index % 17]
    rows = as_rows(table)
    rows._by_expert = [index == 4 for index in range(len(rows))]
    return rows


def gradients(
    model: Any,
    rows: FeedbackRows,
    objective: Any,
    micro_batch: int | None,
    packing: bool,
    tiled_above: int | None = None,
) -> tuple[list[torch.Tensor], dict[str, float]]:
    model.zero_grad(set_to_none=True)
    diagnostics = trainer._backward(
        model,
        rows,
        rows.groups[:8],
        {3, 7},
        objective,
        "float32",
        micro_batch,
        11,
        tiled_above,
        packing,
    )
    return [parameter.grad.clone() for parameter in model.parameters()], diagnostics


@pytest.mark.parametrize("name", OBJECTIVES_UNDER_TEST)
def test_packed_rows_have_the_padded_rows_gradient(
    new_model: Any, rows: FeedbackRows, name: str
) -> None:
    # Beside the sampler, so that importance weights differ from 1.
    model = new_model(3).double()
    objective = OBJECTIVES.build(*OBJECTIVES_UNDER_TEST[name])
    padded, diagnostics = gradients(model, rows, objective, None, False)
    largest = max(float(gradient.abs().max()) for gradient in padded)
    assert largest > 1e-6
    # The last with the head in tiles.
    for micro_batch, tiled_above in ((None, None), (1, None), (5, None), (5, 10)):
        packed, same = gradients(model, rows, objective, micro_batch, True, tiled_above)
        assert same == pytest.approx(diagnostics, rel=1e-9, abs=1e-12)
        for mine, theirs in zip(packed, padded, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12 * largest)


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
        ids, positions = packed.input_ids_1s[0].tolist(), packed.position_ids_1s[0].tolist()
        assert len(ids) <= 2 * max(map(sum, lengths))
        starts = [index for index, position in enumerate(positions) if position == 0]
        predicting = packed.predicting_m.tolist()
        response_ids = batch.response_ids_bt.flatten()[packed.places_m].tolist()
        assert [ids[index + 1] for index in predicting] == response_ids
        for start, end in zip(starts, [*starts[1:], len(ids)], strict=True):
            context, response = rows[ids[start]]
            assert ids[start:end] == [*context, *response]
            assert positions[start:end] == list(range(end - start))
            found.append(ids[start])
        places += packed.places_m.tolist()
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


def test_only_tokens_that_are_there_are_computed(new_model: Any, rows: FeedbackRows) -> None:
    model = new_model(0)
    seen = {"embed": 0, "head": 0}

    def counting(name: str) -> Any:
        def hook(_: Any, __: Any, output: torch.Tensor) -> None:
            seen[name] += output.shape[:-1].numel()

        return hook

    model.model.embed_tokens.register_forward_hook(counting("embed"))
    model.lm_head.register_forward_hook(counting("head"))
    tokens, ids_btk = batch_of(model, rows)
    student_logprobs(model, tokens, ids_btk, packing=True)
    assert seen == {
        "embed": int(tokens.attention_mask_bs.sum()),
        "head": int(tokens.response_mask_bt.sum()),
    }


def other_model(name: str) -> Any:
    """Tiny ones whose attention is unlike Llama's: windows, softcaps, learned positions, and
    convolutions, which know no rows."""
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {
        "vocab_size": 100,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 64,
    }
    changes: dict[str, dict[str, Any]] = {
        "mistral": {"sliding_window": 4},
        "gemma2": {"sliding_window": 4, "head_dim": 8, "query_pre_attn_scalar": 8},
        "qwen3": {"head_dim": 8},
        "gpt2": {"vocab_size": 100, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64},
        "lfm2": {"full_attn_idxs": [1]},
    }
    values = changes[name] if name == "gpt2" else {**sizes, **changes[name]}
    config = AutoConfig.for_model(name, **values, initializer_range=0.3)
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()


def batch_of(model: Any, rows: FeedbackRows) -> Any:
    read = [rows.row(index) for index in range(10)]
    tokens = trainer._tokens(model, read)
    length = tokens.response_ids_bt.shape[1]
    return tokens, trainer.expert_buckets(read, length, model.config.vocab_size)[0]


@pytest.mark.parametrize("name", ["mistral", "gemma2", "qwen3", "gpt2"])
def test_other_architectures_are_packed_alike(rows: FeedbackRows, name: str) -> None:
    """In float32: eager attention, which softcaps need, takes its softmax in it anyhow."""
    model = other_model(name)
    tokens, ids_btk = batch_of(model, rows)
    padded, packed = (
        student_logprobs(model, tokens, ids_btk, packing=packing) for packing in (False, True)
    )
    for mine, theirs in zip(packed, padded, strict=True):
        mask = tokens.response_mask_bt
        torch.testing.assert_close(mine[mask], theirs[mask], rtol=1e-4, atol=1e-4)
        assert not mine[~mask].any()
    require_packable(model, tokens, ids_btk, "float32")


def test_a_model_that_mixes_rows_is_refused(rows: FeedbackRows) -> None:
    model = other_model("lfm2")
    tokens, ids_btk = batch_of(model, rows)
    with pytest.raises(TrainingError, match="does not keep packed rows apart"):
        require_packable(model, tokens, ids_btk, "float32")


@pytest.mark.parametrize("micro_batch", [None, 3])
def test_training_refuses_before_any_weight_changes(
    settings: dict[str, Any], new_model: Any, rows: FeedbackRows, micro_batch: int | None
) -> None:
    model = new_model(0)
    before = [parameter.clone() for parameter in model.parameters()]
    original = model.forward

    def ignoring(**arguments: Any) -> Any:
        if arguments.get("attention_mask") is None:
            arguments["attention_mask"] = torch.ones_like(arguments["input_ids"])
        return original(**arguments)

    model.forward = ignoring
    changes = {"num_steps": 2, "batch_rollouts": 8, "micro_batch_rollouts": micro_batch}
    params = TrainParams(**{**settings["train"], **changes, "packing": True})
    objective = OBJECTIVES.build("forward_cross_entropy", {})
    with pytest.raises(TrainingError, match="does not keep packed rows apart"):
        trainer.train(model, rows, objective, params, 1, no_progress)
    for mine, theirs in zip(model.parameters(), before, strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_packed_training_is_trained_alike(
    settings: dict[str, Any], new_model: Any, rows: FeedbackRows, dtype: Any
) -> None:
    """Computing activations again changes no bit; packing changes rounding."""
    found = []
    for changes in (
        {},
        {"packing": True},
        {"packing": True, "activation_checkpointing": True},
    ):
        model = new_model(0)
        values = {"num_steps": 4, "batch_rollouts": 8, "learning_rate": 0.001, **changes}
        params = TrainParams(**{**settings["train"], **values})
        objective = OBJECTIVES.build("forward_cross_entropy", {})
        trainer.train(model, rows, objective, params, 1, no_progress, dtype)
        found.append([parameter.detach() for parameter in model.parameters()])
    for padded, packed, again in zip(*found, strict=True):
        assert torch.equal(packed, again)
        # Adam's step is as long for a gradient that rounds to nearly nothing.
        torch.testing.assert_close(packed, padded, rtol=0, atol=5e-3)
        assert (packed - padded).abs().mean() < (1e-5 if dtype == "float32" else 1e-3)
