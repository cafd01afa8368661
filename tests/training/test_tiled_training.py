"""Training with the head in tiles is training with logits, on real small models (6 s)."""

from typing import Any

import numpy as np
import pytest
import torch
from training_rows import as_rows
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from distil_core.config.models import TrainParams
from distil_core.errors import TrainingError
from distil_core.objectives import OBJECTIVES
from distil_core.progress import no_progress
from distil_core.tables.schemas import FeedbackTableRow
from distil_core.training.feedback_rows import FeedbackRows
from distil_core.training.state import TrainingSetup
from distil_core.training.trainer import train

VOCABULARY = 300
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}


def llama(**changes: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**{**SIZES, "initializer_range": 0.2, **changes}))


def gemma() -> PreTrainedModel:
    torch.manual_seed(0)
    config = Gemma2Config(**SIZES, final_logit_softcapping=2.0, query_pre_attn_scalar=8)
    return Gemma2ForCausalLM(config)


@pytest.fixture(scope="module")
def rows() -> FeedbackRows:
    """Of lengths 2 to 7; the expert has nothing to say of one, and one stores few ids."""
    random = np.random.default_rng(0)
    table = []
    for index in range(16):
        length, top_k = 2 + index % 6, 1 if index == 5 else 6
        mass_tk = random.dirichlet(np.ones(top_k + 1), size=length)
        ids_tk = [random.choice(VOCABULARY, top_k, replace=False) for _ in range(length)]
        has_expert = index != 3
        table.append(
            FeedbackTableRow(
                rollout_id=f"001/{index // 2}/{index % 2}",
                problem_id=str(index // 2),
                reward=float(index % 3 == 0),
                context_ids=random.integers(2, VOCABULARY, 3 + index % 4).tolist(),
                expert_context_ids=[2, 3],
                response_ids=random.integers(2, VOCABULARY, length).tolist(),
                behaviour_logprobs=(-random.random(length) * 6).tolist(),
                has_expert=has_expert,
                expert_counts=[top_k] * length if has_expert else [],
                expert_ids=np.concatenate(ids_tk).tolist() if has_expert else [],
                expert_logprobs=np.log(mass_tk[:, :-1]).ravel().tolist() if has_expert else [],
                expert_tail_logprobs=np.log(mass_tk[:, -1]).tolist() if has_expert else [],
            )
        )
    return as_rows(table)


def trained(
    model: PreTrainedModel,
    rows: FeedbackRows,
    settings: dict[str, Any],
    objective: str,
    **changes: Any,
) -> tuple[list[float], dict[str, torch.Tensor]]:
    values = {"num_steps": 3, "batch_rollouts": 16, "learning_rate": 0.01, "layout": "padded"}
    values |= changes
    params = TrainParams(**{**settings["train"], **values})
    built: Any = OBJECTIVES.build(objective, {})
    curve = train(model, rows, built, TrainingSetup(params, 3), no_progress)
    return [row["loss"] for row in curve], dict(model.named_parameters())


@pytest.mark.parametrize("make", [llama, lambda: llama(tie_word_embeddings=True), gemma])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"micro_batch_rollouts": 5, "activation_checkpointing": True},
        {"layout": "prefix_tree"},
    ],
)
@pytest.mark.parametrize("objective", ["forward_cross_entropy", "grpo"])
def test_the_same_but_for_rounding(
    make: Any,
    changes: dict[str, Any],
    objective: str,
    rows: FeedbackRows,
    settings: dict[str, Any],
) -> None:
    with_logits, in_tiles = (
        trained(
            make().double(),
            rows,
            settings,
            objective,
            tiled_head_above_vocabulary=limit,
            **changes,
        )
        for limit in (None, VOCABULARY - 1)
    )
    assert in_tiles[0] == pytest.approx(with_logits[0], rel=1e-9)
    for name, weight in with_logits[1].items():
        torch.testing.assert_close(in_tiles[1][name], weight, rtol=1e-7, atol=1e-9)


def test_the_head_is_read_in_tiles_only_above_the_limit(
    rows: FeedbackRows, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def counted(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        return head_logprobs(*arguments, **options)

    from distil_core.training import student_logprobs as module
    from distil_core.training.head_logprobs import head_logprobs

    monkeypatch.setattr(module, "head_logprobs", counted)
    trained(llama(), rows, settings, "forward_cross_entropy")
    trained(
        llama(), rows, settings, "forward_cross_entropy", tiled_head_above_vocabulary=VOCABULARY
    )
    assert not calls
    trained(
        llama(), rows, settings, "forward_cross_entropy", tiled_head_above_vocabulary=VOCABULARY - 1
    )
    assert len(calls) == 3


def test_another_kind_of_head_is_refused(rows: FeedbackRows, settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    scaled = GraniteForCausalLM(GraniteConfig(**SIZES, logits_scaling=4.0, initializer_range=0.3))
    before = {name: value.clone() for name, value in scaled.state_dict().items()}
    with pytest.raises(TrainingError, match="are not the product of its head") as error:
        trained(scaled, rows, settings, "grpo", tiled_head_above_vocabulary=10)
    assert "tiled_head_above_vocabulary: null" in str(error.value)
    assert all(torch.equal(before[name], value) for name, value in scaled.state_dict().items())
    subclass = llama()

    class Head(torch.nn.Linear):
        pass

    subclass.lm_head = Head(16, VOCABULARY)
    with pytest.raises(TrainingError, match="is Head, expected"):
        trained(subclass, rows, settings, "grpo", tiled_head_above_vocabulary=10)
