"""Families of published models go through everything a campaign does with a policy (90 s).

docs/models.md has the table that is checked here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import FAMILIES, Family, table
from transformers import AutoModelForCausalLM, AutoTokenizer

from distil_core.config.models import (
    Component,
    ComputeParams,
    ContextParams,
    Layout,
    PretrainedBase,
    TrainParams,
)
from distil_core.engines import build_engine
from distil_core.engines.base import (
    Engine,
    SampledResponse,
    SampleRequest,
    SamplingSettings,
    ScoredResponse,
    ScoreRequest,
)
from distil_core.errors import TrainingError
from distil_core.feedback.contexts import ContextRenderer
from distil_core.objectives import OBJECTIVES
from distil_core.policy.batching import vocabulary_size
from distil_core.policy.conventions import end_token_ids
from distil_core.policy.model import load_model, save_policy
from distil_core.policy.pretrained import link_pretrained
from distil_core.policy.tokenizer import decode, load_tokenizer
from distil_core.progress import no_progress
from distil_core.tables.schemas import FEEDBACK, FeedbackTableRow
from distil_core.training.feedback_rows import FeedbackRows
from distil_core.training.state import TrainingSetup
from distil_core.training.trainer import train

COMPUTE = ComputeParams(device="cpu", dtype="float32", num_threads=1)
ENGINE = Component(name="transformers", options={"batch_size": 32})
SETTINGS = SamplingSettings(max_new_tokens=16, temperature=1.0, top_p=1.0)
PROMPTS = ("3+4?", "What is 12 and 30?", "Solve it step by step: 7 - 2 (caf\u00e9)")
TEMPLATES = {
    "student_template": "{prompt}\nWrite the answer at the end.",
    "expert_template": "{prompt}\nTried: {attempt}\nIt is {verdict}.\nWrite the answer at the end.",
}


@dataclass
class Policy:
    """A family's checkpoint as a campaign takes it over, and what is sampled from it."""

    family: Family
    folder: Path
    tokenizer: Any
    renderer: ContextRenderer
    engine: Engine
    requests: list[SampleRequest]
    responses: list[SampledResponse]

    @property
    def ids(self) -> Any:
        return self.tokenizer.convert_tokens_to_ids


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: family.name)
def policy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Policy:
    torch.set_num_threads(1)
    family: Family = request.param
    folder = tmp_path_factory.mktemp("family")
    published = family.write(folder / "hf")
    base = PretrainedBase(kind="pretrained", path_or_id=str(published))
    assert link_pretrained(base, folder / "policy-000") == []
    return sampled(family, folder / "policy-000")


def sampled(family: Family, folder: Path) -> Policy:
    tokenizer = load_tokenizer(folder)
    context = ContextParams(
        **TEMPLATES, max_context_tokens=400, chat=family.template is not None, bos="auto"
    )
    renderer = ContextRenderer(context, tokenizer)
    engine = build_engine(ENGINE, folder, COMPUTE)
    contexts = [renderer.student(prompt, prompt).token_ids for prompt in PROMPTS]
    requests = [SampleRequest(contexts[seed % 3], seed) for seed in range(96)]
    responses = engine.sample(requests, SETTINGS, no_progress)
    return Policy(family, folder, tokenizer, renderer, engine, requests, responses)


@torch.inference_mode()
def plain_logprobs(policy: Policy, context: Sequence[int], response: Sequence[int]) -> np.ndarray:
    """What transformers alone computes, for the tokens that the tokenizer has."""
    model = AutoModelForCausalLM.from_pretrained(policy.folder, dtype=torch.float32).eval()
    logits = model(torch.tensor([[*context, *response]])).logits[0]
    known = logits[len(context) - 1 : -1, : vocabulary(policy)].double()
    return np.asarray(torch.log_softmax(known, -1))


def vocabulary(policy: Policy) -> int:
    """Ids that may be drawn: those of the tokenizer that the model has."""
    head = AutoModelForCausalLM.from_pretrained(policy.folder).get_output_embeddings()
    return min(len(head.weight), max(policy.tokenizer.get_vocab().values()) + 1)


def test_the_table_of_the_page_is_of_these_families() -> None:
    page = Path(__file__).parents[2] / "docs" / "models.md"
    assert table() in page.read_text(encoding="utf-8")


def test_contexts_are_the_templates(policy: Policy) -> None:
    """As transformers writes the chat; without a chat, with the first token where there is one."""
    family = policy.family
    hf = AutoTokenizer.from_pretrained(policy.folder)
    prompt = "3+4?"
    text = TEMPLATES["student_template"].format(prompt=prompt)
    found = policy.renderer.student(prompt, "x").token_ids
    if family.template is not None:
        message = [{"role": "user", "content": text}]
        expected = hf.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
        assert hf.decode(found) == hf.decode(hf.encode(expected, add_special_tokens=False))
    if family.begins_with:
        assert found[0] == policy.ids(family.begins_with)
        assert found.count(found[0]) == 1
    expert = policy.renderer.expert(prompt, "8", "wrong", [], "x").token_ids
    policy.renderer.require_same_ending(found, expert)


def test_every_end_ends_a_response_and_padding_is_never_drawn(policy: Policy) -> None:
    ends = [policy.ids(end) for end in policy.family.ends]
    assert set(end_token_ids(policy.tokenizer)) == set(ends)
    last = {one.token_ids[-1] for one in policy.responses if one.finish_reason == "stop"}
    assert last == set(ends)
    size = vocabulary(policy)
    for one in policy.responses:
        assert not set(one.token_ids[:-1]) & set(ends)
        assert (one.token_ids[-1] in ends) == (one.finish_reason == "stop")
        assert max(one.token_ids) < size
        text = decode(policy.tokenizer, one.token_ids)
        assert not any(text.endswith(end) for end in policy.family.ends)


def test_sampling_and_scoring_are_the_plain_forward(policy: Policy) -> None:
    chosen = range(0, len(policy.requests), 9)
    asked = [
        ScoreRequest(policy.requests[i].context_ids, policy.responses[i].token_ids) for i in chosen
    ]
    scored = policy.engine.score(asked, 1000, 1.0, no_progress)
    for index, request, row in zip(chosen, asked, scored, strict=True):
        expected = plain_logprobs(policy, request.context_ids, request.response_ids)
        drawn = expected[range(len(request.response_ids)), list(request.response_ids)]
        found = policy.responses[index].behaviour_logprobs
        np.testing.assert_allclose(found, drawn, rtol=0, atol=2e-4)
        assert row.counts_t.tolist() == [expected.shape[1]] * len(request.response_ids)
        ids = row.token_ids.reshape(expected.shape)
        logprobs = row.logprobs.reshape(expected.shape)
        np.testing.assert_allclose(
            logprobs, np.take_along_axis(expected, ids, 1), rtol=0, atol=2e-4
        )
        assert np.isneginf(row.tail_logprobs_t).all()


@pytest.fixture(scope="module")
def rows(policy: Policy) -> FeedbackRows:
    """The policy as its own expert, that read a verdict."""
    contexts = [
        policy.renderer.expert(PROMPTS[i % 3], "8", "wrong", [], "x").token_ids
        for i in range(len(policy.requests))
    ]
    asked = [
        ScoreRequest(context, response.token_ids)
        for context, response in zip(contexts, policy.responses, strict=True)
    ]
    scored = policy.engine.score(asked, 8, 0.99, no_progress)
    table = map(table_row, range(len(asked)), policy.requests, policy.responses, contexts, scored)
    return FeedbackRows(FEEDBACK.to_table(list(table)), {})


def table_row(
    index: int,
    request: SampleRequest,
    response: SampledResponse,
    context: list[int],
    scored: ScoredResponse,
) -> FeedbackTableRow:
    return FeedbackTableRow(
        rollout_id=f"001/{index % 3}/{index // 3}",
        problem_id=str(index % 3),
        reward=float(index % 2),
        context_ids=request.context_ids,
        expert_context_ids=context,
        response_ids=response.token_ids,
        behaviour_logprobs=response.behaviour_logprobs,
        has_expert=True,
        expert_counts=scored.counts_t,
        expert_ids=scored.token_ids,
        expert_logprobs=scored.logprobs,
        expert_tail_logprobs=scored.tail_logprobs_t,
    )


LAYOUTS: tuple[tuple[Layout, int | None], ...] = (
    ("padded", None),
    ("packed", 10),
    ("prefix_tree", 10),
)
"""With the number of tokens above which the head is read in tiles."""


@pytest.mark.parametrize(("layout", "tiled_above"), LAYOUTS)
def test_a_step_is_trained_and_the_policy_goes_on(
    policy: Policy,
    rows: FeedbackRows,
    settings: dict[str, Any],
    tmp_path: Path,
    layout: Layout,
    tiled_above: int | None,
) -> None:
    model = load_model(policy.folder, COMPUTE)
    head = model.get_output_embeddings().weight
    before = head.detach().clone()
    size = vocabulary(policy)
    assert vocabulary_size(model) == size
    wanted = {"num_steps": 1, "batch_rollouts": 12, "micro_batch_rollouts": 6, "warmup_steps": 0}
    params = TrainParams(
        **{
            **settings["train"],
            **wanted,
            "tiled_head_above_vocabulary": tiled_above,
            "layout": layout,
            "weight_decay": 0.0,
        }
    )
    ends = end_token_ids(policy.tokenizer)
    setup = TrainingSetup(params, 1, end_token_ids=ends)
    objective = OBJECTIVES.build("forward_cross_entropy", {})
    if layout == "prefix_tree" and policy.family.window is not None:
        with pytest.raises(TrainingError, match=f"attends to the last {policy.family.window} only"):
            train(model, rows, objective, setup, no_progress)
        return
    (step,) = train(model, rows, objective, setup, no_progress)
    assert np.isfinite(list(step.values())).all()
    is_own_sampler = step["importance_weight"] == pytest.approx(1, abs=1e-3)
    assert is_own_sampler is not policy.family.has_dropout
    assert not torch.equal(head[:size], before[:size])
    assert torch.equal(head[size:], before[size:])
    if layout != "padded":
        return
    save_policy(model, policy.tokenizer, tmp_path / "policy-001")
    found = {file.name for file in (tmp_path / "policy-001").iterdir()}
    assert found >= {file.name for file in policy.folder.iterdir()}
    after = sampled(policy.family, tmp_path / "policy-001")
    assert end_token_ids(after.tokenizer) == ends
    assert after.requests[0].context_ids == policy.requests[0].context_ids
    assert [one.token_ids for one in after.responses] != [one.token_ids for one in policy.responses]
    assert max(map(max, (one.token_ids for one in after.responses))) < size
