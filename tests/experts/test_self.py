"""The policy as its own expert: what it read, what it said, and never with dropout (2 s)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distil_core.config.models import Component, ComputeParams, TabulateParams
from distil_core.engines.base import SamplingSettings, ScoreRequest
from distil_core.engines.transformers import TransformersEngine
from distil_core.errors import CheckpointError, ConfigError, ExpertError
from distil_core.experts import EXPERTS, build_expert, sampling_of_expert
from distil_core.experts.base import Expert, ExpertQuery
from distil_core.feedback.compose import render_expert
from distil_core.policy.model import load_model, save_policy
from distil_core.policy.text_segments import Segment
from distil_core.policy.tokenizer import encode_context
from distil_core.progress import no_progress
from distil_core.verifiers.base import FeedbackItem

TEMPLATE = "{prompt}?{attempt}#{verdict} {execution_trace}|"


def tabulate(**options: Any) -> TabulateParams:
    expert = Component(name="self", options={"weights": "frozen", "batch_size": 2, **options})
    return TabulateParams(expert=expert, top_k=5, top_p=0.9, rows_per_shard=10)


def expert(policy_dir: Path, compute: ComputeParams, max_context_tokens: int = 60) -> Expert:
    return build_expert(tabulate(), policy_dir, compute, max_context_tokens)


def query(attempt: str, tokenizer: Any) -> ExpertQuery:
    context = render_expert(
        TEMPLATE, "1+1=", attempt, "wrong", [FeedbackItem("execution_trace", "2")]
    )
    context_ids = encode_context(tokenizer, context)
    return ExpertQuery(context_ids, [*tokenizer.convert_tokens_to_ids(list(attempt)), 1])


@pytest.fixture
def queries(tokenizer: Any) -> list[ExpertQuery]:
    return [query(attempt, tokenizer) for attempt in ("3", "", "12345", "0", "44")]


def test_answers_are_scores_in_the_experts_own_context(
    policy_dir: Path, compute: ComputeParams, tokenizer: Any, queries: list[ExpertQuery]
) -> None:
    answers = expert(policy_dir, compute).answer(queries, no_progress)
    engine = TransformersEngine(load_model(policy_dir, compute), [1], batch_size=2)
    contexts = [query.context_ids for query in queries]
    requests = [
        ScoreRequest(ids, query.response_ids) for ids, query in zip(contexts, queries, strict=True)
    ]
    scored = engine.score(requests, 5, 0.9, no_progress)
    for answer, ids, distribution in zip(answers, contexts, scored, strict=True):
        assert answer.context_ids == ids
        for name, expected in vars(distribution).items():
            np.testing.assert_array_equal(getattr(answer.distribution, name), expected)


def test_in_trees_it_says_the_same(
    policy_dir: Path, compute: ComputeParams, queries: list[ExpertQuery]
) -> None:
    plain, trees = (
        build_expert(tabulate(batch_size=8, layout=layout), policy_dir, compute, 60)
        for layout in ("padded", "prefix_tree")
    )
    for one, other in zip(
        plain.answer(queries, no_progress), trees.answer(queries, no_progress), strict=True
    ):
        assert one.context_ids == other.context_ids
        np.testing.assert_array_equal(one.distribution.token_ids, other.distribution.token_ids)
        np.testing.assert_allclose(
            one.distribution.logprobs, other.distribution.logprobs, rtol=0, atol=1e-5
        )


def test_it_reads_the_feedback(policy_dir: Path, compute: ComputeParams, tokenizer: Any) -> None:
    response = tokenizer.convert_tokens_to_ids(["3"])
    contexts = [
        render_expert(TEMPLATE, "1+1=", "3", "wrong", [FeedbackItem("execution_trace", said)])
        for said in ("2", "4")
    ]
    first, second = expert(policy_dir, compute).answer(
        [ExpertQuery(encode_context(tokenizer, context), response) for context in contexts],
        no_progress,
    )
    assert not np.array_equal(first.distribution.logprobs, second.distribution.logprobs)


def test_no_dropout(
    new_model: Any,
    tokenizer: Any,
    compute: ComputeParams,
    queries: list[ExpertQuery],
    tmp_path: Path,
) -> None:
    model = new_model()
    model.config.attention_dropout = 0.5
    save_policy(model, tokenizer, tmp_path / "policy")
    teacher = expert(tmp_path / "policy", compute)
    torch.manual_seed(1)
    first = teacher.answer(queries, no_progress)
    torch.manual_seed(2)
    for one, other in zip(first, teacher.answer(queries, no_progress), strict=True):
        np.testing.assert_array_equal(one.distribution.logprobs, other.distribution.logprobs)


def test_a_context_is_refused_rather_than_cut(
    policy_dir: Path, compute: ComputeParams, queries: list[ExpertQuery]
) -> None:
    longest = max(len(query.context_ids) for query in queries)
    expert(policy_dir, compute, longest).answer(queries, no_progress)
    with pytest.raises(ExpertError, match=rf"has {longest} tokens.*allows {longest - 1}.* never"):
        expert(policy_dir, compute, longest - 1).answer(queries, no_progress)


@pytest.mark.parametrize("layout", ["padded", "prefix_tree"])
@pytest.mark.parametrize("temperature", [0.25, 0.7, 3.0])
def test_a_temperature_is_of_the_whole_distribution_before_it_is_cut(
    policy_dir: Path,
    compute: ComputeParams,
    queries: list[ExpertQuery],
    temperature: float,
    layout: str,
) -> None:
    """From the model's own logits, by the definition: log-softmax of logits / T, the fewest ids
    that hold top_p, at most top_k, and the rest as tail."""
    params = tabulate(temperature=temperature, layout=layout, batch_size=8)
    answers = build_expert(params, policy_dir, compute, 60).answer(queries, no_progress)
    model = load_model(policy_dir, compute)
    for asked, answer in zip(queries, answers, strict=True):
        ids = torch.tensor([[*asked.context_ids, *asked.response_ids]])
        with torch.inference_mode():
            logits_tv = model(ids).logits[0, len(asked.context_ids) - 1 : -1]
        logprobs_tv = torch.log_softmax(logits_tv.double() / temperature, dim=-1)
        start = 0
        for t, count in enumerate(answer.distribution.counts_t):
            stored = slice(start, start + count)
            start += count
            ranked, order = logprobs_tv[t].sort(descending=True)
            before = torch.cat([torch.zeros(1).double(), ranked.exp().cumsum(0)[:-1]])
            assert count == min(5, int((before < 0.9).sum()))
            assert answer.distribution.token_ids[stored].tolist() == order[:count].tolist()
            np.testing.assert_allclose(
                answer.distribution.logprobs[stored], ranked[:count], rtol=0, atol=2e-5
            )
            np.testing.assert_allclose(
                answer.distribution.tail_logprobs_t[t],
                ranked[count:].logsumexp(0),
                rtol=0,
                atol=2e-5,
            )


def test_temperature_one_is_the_same_to_the_bit(
    policy_dir: Path, compute: ComputeParams, queries: list[ExpertQuery]
) -> None:
    plain = expert(policy_dir, compute).answer(queries, no_progress)
    one = build_expert(tabulate(temperature=1.0), policy_dir, compute, 60)
    for first, second in zip(plain, one.answer(queries, no_progress), strict=True):
        for name, expected in vars(first.distribution).items():
            np.testing.assert_array_equal(getattr(second.distribution, name), expected)


def test_its_own_responses_are_sampled_from_what_is_stored() -> None:
    settings = SamplingSettings(8, 0.5, 0.9)
    sharp = tabulate(temperature=0.5).expert
    assert sampling_of_expert(sharp, settings) == SamplingSettings(8, 0.25, 0.9)
    assert sampling_of_expert(tabulate().expert, settings) == settings


def test_nothing_asked_nothing_said(policy_dir: Path, compute: ComputeParams) -> None:
    assert expert(policy_dir, compute).answer([], no_progress) == []


def test_content_cannot_end_the_experts_turn(
    policy_dir: Path, compute: ComputeParams, tokenizer: Any
) -> None:
    (answer,) = expert(policy_dir, compute).answer([query("<|end|>", tokenizer)], no_progress)
    assert tokenizer.eos_token_id not in answer.context_ids
    template = [Segment("<|end|>|", is_template=True)]
    meant = ExpertQuery(encode_context(tokenizer, template), [5])
    (answer,) = expert(policy_dir, compute).answer([meant], no_progress)
    assert tokenizer.eos_token_id in answer.context_ids


def test_what_cannot_be_built(policy_dir: Path, compute: ComputeParams, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no tokenizer"):
        expert(tmp_path, compute)
    with pytest.raises(ConfigError, match=r"options of expert 'self': weights: .*'frozen'"):
        build_expert(tabulate(weights="latest"), policy_dir, compute, 60)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give batch_size, for the transformers engine, or an engine"),
        ({"batch_size": 2, "engine": {"name": "transformers", "options": {"batch_size": 2}}}, "or"),
        (
            {
                "layout": "prefix_tree",
                "engine": {"name": "transformers", "options": {"batch_size": 2}},
            },
            "found layout prefix_tree beside an engine: give it among the engine's options",
        ),
        ({"batch_size": 2, "layout": "packed"}, "layout: .*'padded' or 'prefix_tree'"),
        ({"engine": {"name": "transformers", "options": {}}}, "batch_size"),
        ({"engine": {"name": "vllm", "options": {"mode": "elsewhere"}}}, "mode"),
        ({"engine": {"name": "steam", "options": {}}}, "unknown engine 'steam'"),
        ({"batch_size": 2, "temperature": 0}, "temperature: .*greater than 0"),
        (
            {
                "engine": {"name": "vllm", "options": {"mode": "in_process"}},
                "temperature": 0.5,
            },
            "temperature 0.5 beside engine 'vllm', which gives the most likely ids",
        ),
    ],
)
def test_it_scores_with_one_engine(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EXPERTS.options("self", {"weights": "frozen", **options})
