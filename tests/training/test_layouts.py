"""In every layout rows have the padded rows' log-probabilities and gradients (30 s)."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from test_micro_batches import OBJECTIVES_UNDER_TEST
from training_rows import as_rows, make_table

from distil_core.config.models import Layout, TrainParams
from distil_core.errors import TrainingError
from distil_core.objectives import OBJECTIVES
from distil_core.policy.batching import vocabulary_size
from distil_core.policy.prefix_tree import unsupported_reason
from distil_core.progress import no_progress
from distil_core.training import trainer
from distil_core.training.feedback_rows import FeedbackRows
from distil_core.training.layout_check import require_rows_apart
from distil_core.training.state import TrainingSetup
from distil_core.training.step_batch import BatchPart, make_step_batch
from distil_core.training.student_logprobs import student_logprobs

LAYOUTS: tuple[Layout, ...] = ("packed", "prefix_tree")


@pytest.fixture(scope="module")
def rows(new_model: Any) -> FeedbackRows:
    """Contexts of 1 to 17 tokens, most alike within a group; some responses begin alike, and one is
    that of the row before it."""
    table = make_table(new_model)
    for index, row in enumerate(table):
        before = table[index - 1]
        if index % 2 and index != 5:
            shared = index % 5 if index != 7 else 6
            response = [*before.response_ids[:shared], *row.response_ids][: len(row.response_ids)]
            table[index] = replace(row, context_ids=before.context_ids, response_ids=response)
        else:
            context = (list(row.context_ids) * 4)[: 1 + 7 * index % 17]
            table[index] = replace(row, context_ids=context)
    rows = as_rows(table)
    rows._by_expert = [index == 4 for index in range(len(rows))]
    return rows


def gradients(
    model: Any,
    rows: FeedbackRows,
    objective: Any,
    micro_batch: int | None,
    layout: Layout,
    tiled_above: int | None = None,
) -> tuple[list[torch.Tensor], dict[str, float]]:
    model.zero_grad(set_to_none=True)
    size = vocabulary_size(model)
    batch = make_step_batch(rows, rows.groups[:8], {3, 7}, size, micro_batch, layout)
    diagnostics = trainer._backward(model, batch, objective, "float32", 11, tiled_above)
    return [parameter.grad.clone() for parameter in model.parameters()], diagnostics


@pytest.mark.usefixtures("exact_norms")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", OBJECTIVES_UNDER_TEST)
def test_gradients_are_the_padded_rows(
    new_model: Any, rows: FeedbackRows, name: str, layout: Layout
) -> None:
    # Beside the sampler, so that importance weights differ from 1.
    model = new_model(3).double()
    objective = OBJECTIVES.build(*OBJECTIVES_UNDER_TEST[name])
    padded, diagnostics = gradients(model, rows, objective, None, "padded")
    largest = max(float(gradient.abs().max()) for gradient in padded)
    assert largest > 1e-6
    # The last with the head in tiles.
    for micro_batch, tiled_above in ((None, None), (1, None), (5, None), (5, 10)):
        other, same = gradients(model, rows, objective, micro_batch, layout, tiled_above)
        assert same == pytest.approx(diagnostics, rel=1e-9, abs=1e-12)
        for mine, theirs in zip(other, padded, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12 * largest)


def test_only_tokens_that_are_there_are_packed(new_model: Any, rows: FeedbackRows) -> None:
    model = new_model(0)
    seen = {"embed": 0, "head": 0}

    def counting(name: str) -> Any:
        def hook(_: Any, __: Any, output: torch.Tensor) -> None:
            seen[name] += output.shape[:-1].numel()

        return hook

    model.model.embed_tokens.register_forward_hook(counting("embed"))
    model.lm_head.register_forward_hook(counting("head"))
    part = part_of(model, rows, "packed")
    tokens = part.tokens
    student_logprobs(model, tokens, part.expert_ids_btk, sequences=part.sequences)
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
        "llama": {},
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


def part_of(model: Any, rows: FeedbackRows, layout: Layout) -> BatchPart:
    (part,) = make_step_batch(
        rows, [list(range(10))], set(), model.config.vocab_size, None, layout
    ).parts
    return part


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        *(("packed", name) for name in ("mistral", "gemma2", "qwen3", "gpt2")),
        *(("prefix_tree", name) for name in ("llama", "qwen3", "gpt2")),
    ],
)
def test_other_architectures_are_computed_alike(
    rows: FeedbackRows, layout: Layout, name: str
) -> None:
    """In float32: eager attention, which softcaps need, takes its softmax in it anyhow."""
    model = other_model(name)
    part = part_of(model, rows, layout)
    padded, other = (
        student_logprobs(model, part.tokens, part.expert_ids_btk, sequences=sequences)
        for sequences in (None, part.sequences)
    )
    for mine, theirs in zip(other, padded, strict=True):
        mask = part.tokens.response_mask_bt
        torch.testing.assert_close(mine[mask], theirs[mask], rtol=1e-4, atol=1e-4)
        assert not mine[~mask].any()
    require_rows_apart(model, part, layout, "float32")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_model_that_mixes_rows_is_refused(rows: FeedbackRows, layout: Layout) -> None:
    model = other_model("lfm2")
    part = part_of(model, rows, layout)
    with pytest.raises(TrainingError, match=f"layout {layout}: .*does not keep rows apart there"):
        require_rows_apart(model, part, layout, "float32")


def test_windows_shorter_than_the_rows_are_refused_as_trees(
    settings: dict[str, Any], rows: FeedbackRows
) -> None:
    model = other_model("mistral")
    assert rows.longest > 4
    assert unsupported_reason(model, 4) is None
    with pytest.raises(TrainingError, match=rf"has {rows.longest} tokens, and it attends to the"):
        trained(model, settings, rows, {"layout": "prefix_tree"})
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(TrainingError, match="its attention is flash_attention_2"):
        trained(model, settings, rows, {"layout": "prefix_tree"})


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
    with pytest.raises(TrainingError, match="does not keep rows apart there"):
        trained(model, settings, rows, {"micro_batch_rollouts": micro_batch, "layout": "packed"})
    for mine, theirs in zip(model.parameters(), before, strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_layout_trains_alike(
    settings: dict[str, Any], new_model: Any, rows: FeedbackRows, layout: Layout, dtype: Any
) -> None:
    """Computing activations again changes no bit; the layout changes rounding."""
    found = []
    for changes in ({}, {"layout": layout}, {"layout": layout, "activation_checkpointing": True}):
        model = new_model(0)
        trained(model, settings, rows, {"num_steps": 4, **changes}, dtype)
        found.append([parameter.detach() for parameter in model.parameters()])
    for padded, other, again in zip(*found, strict=True):
        assert torch.equal(other, again)
        # Adam's step is as long for a gradient that rounds to nearly nothing.
        torch.testing.assert_close(other, padded, rtol=0, atol=5e-3)
        assert (other - padded).abs().mean() < (1e-5 if dtype == "float32" else 1e-3)


def trained(
    model: Any,
    settings: dict[str, Any],
    rows: FeedbackRows,
    changes: dict[str, Any],
    dtype: Any = "float32",
) -> None:
    values = {"num_steps": 2, "batch_rollouts": 8, "learning_rate": 0.001, **changes}
    objective = OBJECTIVES.build("forward_cross_entropy", {})
    params = TrainParams(**{**settings["train"], **values})
    trainer.train(model, rows, objective, TrainingSetup(params, 1, dtype), no_progress)
