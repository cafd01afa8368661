"""Evaluation and report over large vocabularies: the same numbers, without the logits whole."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from distil_core.evaluation.expert_with_feedback import response_logprobs
from distil_core.evaluation.hindsight import token_costs
from distil_core.training.feedback_rows import FeedbackRow

VOCABULARY = 20_011
RANDOM = np.random.default_rng(0)
CONTEXTS = [RANDOM.integers(0, VOCABULARY, 3 + i % 4).tolist() for i in range(9)]
RESPONSES = [RANDOM.integers(0, VOCABULARY, 1 + 5 * i).tolist() for i in range(9)]


class Largest(TorchDispatchMode):
    """How many numbers the largest tensor holds that any operation makes."""

    def __init__(self, besides: int) -> None:
        super().__init__()
        self.besides, self.found = besides, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for one in tree_leaves(result):
            # The embedding and the head are as large as they are.
            if isinstance(one, torch.Tensor) and one.numel() != self.besides:
                self.found = max(self.found, one.numel())
        return result


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.5,
    )
    return LlamaForCausalLM(config).double().eval()


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_responses_have_the_same_probability(model: Any, temperature: float) -> None:
    whole = response_logprobs(model, CONTEXTS, RESPONSES, temperature, tiled_above=None)
    with Largest(VOCABULARY * 16) as largest:
        found = response_logprobs(model, CONTEXTS, RESPONSES, temperature)
    np.testing.assert_allclose(found, whole, rtol=1e-12)
    expected = []
    for context, response in zip(CONTEXTS, RESPONSES, strict=True):
        logits = model(torch.tensor([[*context, *response]])).logits[0, len(context) - 1 : -1]
        logprobs = torch.log_softmax(logits / temperature, -1)
        expected.append(logprobs[range(len(response)), response].sum().item())
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    # A tile and what is compared before, instead of 9 x 41 positions with all their logits.
    assert largest.found <= max(1024 * 4096 + 1, 32 * VOCABULARY)


def test_long_responses_are_few_at_a_time(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = response_logprobs(model, CONTEXTS, RESPONSES, 1.0, tiled_above=None)
    limit = 50 * VOCABULARY
    monkeypatch.setattr("distil_core.evaluation.expert_with_feedback.LOGITS_AT_ONCE", limit)
    with Largest(VOCABULARY * 16) as largest:
        found = response_logprobs(model, CONTEXTS, RESPONSES, 1.0, tiled_above=None)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert largest.found <= limit
    assert response_logprobs(model, [], [], 1.0) == []


def test_a_head_that_cannot_be_tiled_is_computed_whole() -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_embd=8, n_layer=1, n_head=1, n_positions=64)
    ).eval()

    class Scaled(torch.nn.Linear):
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return super().forward(hidden) * 3

    model.lm_head.__class__ = Scaled
    whole = response_logprobs(model, CONTEXTS, RESPONSES, 1.0, tiled_above=None)
    assert response_logprobs(model, CONTEXTS, RESPONSES, 1.0) == whole


def _row(index: int) -> FeedbackRow:
    length = len(RESPONSES[index])
    ids = np.array([RANDOM.choice(VOCABULARY, 3, replace=False) for _ in range(length)], np.int32)
    masses = RANDOM.dirichlet(np.ones(4), length)
    return FeedbackRow(
        rollout_id=f"001/p/{index}",
        reward=0.0,
        context_ids=np.array(CONTEXTS[index], np.int32),
        response_ids_t=np.array(RESPONSES[index], np.int32),
        behaviour_logprobs_t=np.zeros(length, np.float32),
        has_expert=True,
        expert_counts_t=np.full(length, 3, np.int32),
        expert_ids=ids.ravel(),
        expert_logprobs=np.log(masses[:, :3]).ravel().astype(np.float32),
        expert_tail_logprobs_t=np.log(masses[:, 3]).astype(np.float32),
    )


def test_the_reports_costs_are_the_same(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [_row(index) for index in range(len(CONTEXTS))]
    whole = token_costs(model, rows, tiled_above=None)
    with Largest(VOCABULARY * 16) as largest:
        found = token_costs(model, rows)
    assert largest.found <= max(1024 * 4096 + 1, 32 * VOCABULARY)
    monkeypatch.setattr("distil_core.evaluation.hindsight.LOGITS_AT_ONCE", 50 * VOCABULARY)
    few = token_costs(model, rows, tiled_above=None)
    for one, two, three in zip(found, whole, few, strict=True):
        # The expert's side is stored, and computed with, in single precision.
        np.testing.assert_allclose(one.disagreement_t, two.disagreement_t, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(three.disagreement_t, two.disagreement_t, rtol=1e-9, atol=1e-9)
