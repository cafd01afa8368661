"""The engine against plain forward passes of the same model, one row at a time (6 s)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distil_core.config.models import Component, ComputeParams
from distil_core.engines import _scoring, build_engine
from distil_core.engines.base import (
    SampleRequest,
    SamplingSettings,
    ScoredResponse,
    ScoreRequest,
)
from distil_core.engines.transformers import TransformersEngine
from distil_core.errors import CheckpointError, ConfigError, EngineError
from distil_core.progress import no_progress

END = 1
RANDOM = np.random.default_rng(0)
CONTEXTS = [RANDOM.integers(3, 99, length).tolist() for length in (1, 9, 4, 4, 17, 2, 9, 30)]
SETTINGS = SamplingSettings(max_new_tokens=12, temperature=1.0, top_p=1.0)


@pytest.fixture(scope="module")
def model(ending_model: Any) -> Any:
    return ending_model(7, 2.5)


@pytest.fixture(scope="module")
def engine(model: Any) -> TransformersEngine:
    # Not 5: each length occurs five times, and every batch would be of one length.
    return TransformersEngine(model, [END], batch_size=7)


def requests(count: int = 40) -> list[SampleRequest]:
    return [SampleRequest(CONTEXTS[i % len(CONTEXTS)], seed=1000 + i) for i in range(count)]


@torch.inference_mode()
def plain_logits(model: Any, context: Sequence[int], response: Sequence[int]) -> torch.Tensor:
    """[T, V] float64 by one plain call: no padding, mask, cache or slicing of ours."""
    ids = torch.tensor([[*context, *response]])
    logits: torch.Tensor = model(ids, use_cache=False).logits[0]
    return logits[len(context) - 1 : -1].double()


@pytest.mark.parametrize(
    ("temperature", "top_p"), [(1.0, 1.0), (0.7, 1.0), (1.3, 0.9), (1.0, 0.5), (0.3, 1.0)]
)
def test_behaviour_logprobs_are_those_of_the_sampler_really_used(
    model: Any, engine: TransformersEngine, temperature: float, top_p: float
) -> None:
    """Teacher-forced, one row at a time; the nucleus redone in numpy."""
    settings = SamplingSettings(12, temperature, top_p)
    asked = requests()
    responses = engine.sample(asked, settings, no_progress)
    for request, response in zip(asked, responses, strict=True):
        logits = plain_logits(model, request.context_ids, response.token_ids)
        logprobs = torch.log_softmax(logits / temperature, -1).numpy()
        expected = []
        for token, row in zip(response.token_ids, logprobs, strict=True):
            order = np.argsort(-row, kind="stable")
            mass = np.exp(row[order]).cumsum()
            nucleus = order[: int((mass < top_p).sum()) + 1] if top_p < 1 else order
            assert token in nucleus
            expected.append(row[token] - np.log(np.exp(row[nucleus]).sum()))
        np.testing.assert_allclose(response.behaviour_logprobs, expected, rtol=0, atol=1e-5)


def test_responses_end_at_the_first_end_token_or_at_the_limit(engine: TransformersEngine) -> None:
    responses = engine.sample(requests(200), SETTINGS, no_progress)
    lengths = set()
    for response in responses:
        assert len(response.behaviour_logprobs) == len(response.token_ids)
        assert all(logprob <= 0 for logprob in response.behaviour_logprobs)
        if response.finish_reason == "stop":
            assert response.token_ids.index(END) == len(response.token_ids) - 1
            lengths.add(len(response.token_ids))
        else:
            assert response.finish_reason == "length"
            assert END not in response.token_ids
            assert len(response.token_ids) == SETTINGS.max_new_tokens
    assert len(lengths) > 5
    assert {response.finish_reason for response in responses} == {"stop", "length"}


def test_any_end_token_ends_a_response(engine: TransformersEngine, model: Any) -> None:
    """The same draws, cut at whichever end comes first; the one that came is kept."""
    long = engine.sample(requests(200), SETTINGS, no_progress)
    ends = {END, 17, 40}
    found = TransformersEngine(model, ends, batch_size=7).sample(
        requests(200), SETTINGS, no_progress
    )
    last = set()
    for one, whole in zip(found, long, strict=True):
        at = next((i for i, token in enumerate(whole.token_ids) if token in ends), None)
        kept = len(whole.token_ids) if at is None else at + 1
        assert one.token_ids == whole.token_ids[:kept]
        # Rows that ended leave smaller batches, which may sum in another order.
        assert one.behaviour_logprobs == pytest.approx(whole.behaviour_logprobs[:kept], abs=1e-5)
        assert one.finish_reason == ("length" if at is None else "stop")
        last.add(one.token_ids[-1])
    assert last >= ends


@pytest.mark.parametrize("unknown", [-1, 99, 10**9])
def test_tokens_that_the_model_does_not_know(engine: TransformersEngine, unknown: int) -> None:
    with pytest.raises(EngineError, match="tokenizer and weights of one checkpoint"):
        engine.sample([SampleRequest([5, unknown], 1)], SETTINGS, no_progress)
    with pytest.raises(EngineError, match="tokenizer and weights of one checkpoint"):
        engine.score([ScoreRequest([5], [unknown])], 4, 1.0, no_progress)


def test_an_end_token_at_the_limit_is_an_end(engine: TransformersEngine) -> None:
    """The last allowed token may be the end token: that response is whole, not truncated."""
    long = engine.sample(requests(200), SETTINGS, no_progress)
    ended = [i for i, row in enumerate(long) if row.finish_reason == "stop"]
    index = max(ended, key=lambda i: len(long[i].token_ids))
    exact = SamplingSettings(len(long[index].token_ids), 1.0, 1.0)
    (whole,) = engine.sample([requests(200)[index]], exact, no_progress)
    assert (whole.token_ids, whole.finish_reason) == (long[index].token_ids, "stop")
    shorter = SamplingSettings(len(long[index].token_ids) - 1, 1.0, 1.0)
    (cut,) = engine.sample([requests(200)[index]], shorter, no_progress)
    assert (cut.token_ids, cut.finish_reason) == (long[index].token_ids[:-1], "length")
    assert cut.behaviour_logprobs == whole.behaviour_logprobs[:-1]


@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
def test_tokens_depend_neither_on_the_batch_nor_on_the_order(
    model: Any, engine: TransformersEngine, batch_size: int
) -> None:
    asked = requests()
    expected = engine.sample(asked, SETTINGS, no_progress)
    shuffled = RANDOM.permutation(len(asked))
    other = TransformersEngine(model, [END], batch_size)
    found = other.sample([asked[i] for i in shuffled], SETTINGS, no_progress)
    for index, response in zip(shuffled, found, strict=True):
        assert response.token_ids == expected[index].token_ids
        assert response.finish_reason == expected[index].finish_reason
        np.testing.assert_allclose(
            response.behaviour_logprobs, expected[index].behaviour_logprobs, rtol=0, atol=1e-5
        )


def test_the_same_requests_give_the_same_bits(engine: TransformersEngine) -> None:
    torch.manual_seed(1)
    first = engine.sample(requests(), SETTINGS, no_progress)
    torch.manual_seed(2)
    assert engine.sample(requests(), SETTINGS, no_progress) == first


def test_a_rollouts_seed_decides_its_tokens(engine: TransformersEngine) -> None:
    same = [SampleRequest(CONTEXTS[1], 5), SampleRequest(CONTEXTS[1], 5)]
    first, second = engine.sample(same, SETTINGS, no_progress)
    assert first.token_ids == second.token_ids
    many = engine.sample([SampleRequest(CONTEXTS[1], s) for s in range(20)], SETTINGS, no_progress)
    assert len({tuple(response.token_ids) for response in many}) > 15


def test_first_tokens_follow_the_models_distribution(
    model: Any, engine: TransformersEngine
) -> None:
    asked = [SampleRequest(CONTEXTS[2], seed) for seed in range(3000)]
    one = SamplingSettings(1, 1.0, 1.0)
    big = TransformersEngine(model, [END], 3000)
    tokens = [response.token_ids[0] for response in big.sample(asked, one, no_progress)]
    masses = torch.softmax(plain_logits(model, CONTEXTS[2], [0])[0], -1).numpy()
    likely = masses > 5 / len(asked)
    counts = np.bincount(tokens, minlength=len(masses))
    observed = np.append(counts[likely], counts[~likely].sum())
    expected = np.append(masses[likely], masses[~likely].sum()) * len(asked)
    chi_square = ((observed - expected) ** 2 / expected).sum()
    assert chi_square < len(observed) + 4 * np.sqrt(2 * len(observed))


def test_progress_counts_every_request(engine: TransformersEngine) -> None:
    reported: list[tuple[int, int]] = []
    engine.sample(requests(12), SETTINGS, lambda *step: reported.append(step))
    assert reported == [(7, 12), (12, 12)]
    assert engine.sample([], SETTINGS, no_progress) == []
    assert engine.score([], 3, 0.9, no_progress) == []


def position_by_position(scored: ScoredResponse) -> list[tuple[np.ndarray, np.ndarray, float]]:
    ends = scored.counts_t.cumsum()
    return [
        (scored.token_ids[end - count : end], scored.logprobs[end - count : end], float(tail))
        for count, end, tail in zip(scored.counts_t, ends, scored.tail_logprobs_t, strict=True)
    ]


SCORED = [
    ScoreRequest(CONTEXTS[i % len(CONTEXTS)], RANDOM.integers(0, 99, 1 + i % 6).tolist())
    for i in range(17)
]


@pytest.mark.parametrize("layout", ["padded", "prefix_tree"])
@pytest.mark.parametrize(
    ("top_k", "top_p"), [(1, 1.0), (5, 1.0), (5, 0.5), (99, 0.9), (99, 1.0), (500, 1.0), (16, 1e-9)]
)
def test_scores_are_those_of_a_plain_forward_pass(
    model: Any, top_k: int, top_p: float, layout: Any
) -> None:
    engine = TransformersEngine(model, [END], 7, layout)
    for request, scored in zip(
        SCORED, engine.score(SCORED, top_k, top_p, no_progress), strict=True
    ):
        logprobs = torch.log_softmax(
            plain_logits(model, request.context_ids, request.response_ids), -1
        ).numpy()
        positions = position_by_position(scored)
        assert len(positions) == len(request.response_ids)
        for (ids, stored, tail), exact in zip(positions, logprobs, strict=True):
            np.testing.assert_allclose(stored, exact[ids], rtol=0, atol=1e-5)
            assert (np.diff(stored) <= 0).all(), "most likely first"
            assert len(set(ids.tolist())) == len(ids)
            masses = np.sort(np.exp(exact))[::-1]
            fewest = int((masses.cumsum() < top_p).sum()) + 1 if top_p < 1 else len(masses)
            assert len(ids) == min(fewest, top_k, len(masses))
            left = np.delete(np.exp(exact), ids)
            if not len(left):
                assert tail == -np.inf
            else:
                assert tail == pytest.approx(np.log(left.sum()), abs=1e-5)
            assert np.exp(stored.astype(np.float64)).sum() + np.exp(tail) == pytest.approx(
                1, abs=1e-6
            )


def test_a_tiny_tail_is_exact(model: Any) -> None:
    """As 1 minus the kept mass it would be lost to rounding."""
    import copy

    sure = copy.deepcopy(model)
    with torch.no_grad():
        sure.get_input_embeddings().weight *= 30
    request = ScoreRequest(CONTEXTS[1], CONTEXTS[4])
    (scored,) = TransformersEngine(sure, [END], 4).score([request], 4, 1.0, no_progress)
    logits = plain_logits(sure, request.context_ids, request.response_ids).numpy()
    tiny = 0
    for (ids, _, tail), row in zip(position_by_position(scored), logits, strict=True):
        left = np.delete(row, ids)
        exact = left.max() + np.log(np.exp(left - left.max()).sum())
        exact -= row.max() + np.log(np.exp(row - row.max()).sum())
        assert tail == pytest.approx(exact, rel=1e-5)
        tiny += exact < np.log(1e-16)
    assert tiny > 3


def test_scores_do_not_depend_on_the_batch(model: Any, engine: TransformersEngine) -> None:
    alone = TransformersEngine(model, [END], 1).score(SCORED, 6, 1.0, no_progress)
    for one, batched in zip(alone, engine.score(SCORED, 6, 1.0, no_progress), strict=True):
        np.testing.assert_array_equal(one.counts_t, batched.counts_t)
        np.testing.assert_array_equal(one.token_ids, batched.token_ids)
        np.testing.assert_allclose(one.logprobs, batched.logprobs, rtol=0, atol=1e-5)


def test_scores_do_not_depend_on_how_many_positions_are_done_at_once(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large vocabulary is done in parts, here of one and of three positions."""
    expected = engine.score(SCORED, 6, 0.9, no_progress)
    for at_once in (1, 3 * 99):
        monkeypatch.setattr(_scoring, "_LOGITS_AT_ONCE", at_once)
        for one, other in zip(expected, engine.score(SCORED, 6, 0.9, no_progress), strict=True):
            for name, values in vars(one).items():
                np.testing.assert_array_equal(getattr(other, name), values)


def test_scoring_what_was_sampled_gives_the_behaviour_back(engine: TransformersEngine) -> None:
    asked = requests(20)
    responses = engine.sample(asked, SETTINGS, no_progress)
    scored = engine.score(
        [ScoreRequest(a.context_ids, r.token_ids) for a, r in zip(asked, responses, strict=True)],
        99,
        1.0,
        no_progress,
    )
    for response, distribution in zip(responses, scored, strict=True):
        found = [
            float(stored[ids.tolist().index(token)])
            for token, (ids, stored, _) in zip(
                response.token_ids, position_by_position(distribution), strict=True
            )
        ]
        np.testing.assert_allclose(found, response.behaviour_logprobs, rtol=0, atol=1e-5)


def test_trees_compute_what_rows_share_once(model: Any) -> None:
    context = CONTEXTS[4]
    asked = [ScoreRequest(context, [5, 6, last]) for last in (3, 4, 5, 6)]
    computed = []
    hook = model.model.embed_tokens.register_forward_hook(
        lambda _, __, output: computed.append(output.shape[:-1].numel())
    )
    for layout in ("padded", "prefix_tree"):
        TransformersEngine(model, [END], 8, layout).score(asked, 6, 1.0, no_progress)
    hook.remove()
    # The check of trees scores these few both ways before.
    padded, *check, trees = computed
    assert padded == 4 * (len(context) + 3)
    assert check == [padded, trees]
    assert trees == len(context) + 2


def test_a_model_that_cannot_do_trees_is_refused(model: Any, new_model: Any) -> None:
    windowed = new_model(7)
    windowed.config.sliding_window = 20
    with pytest.raises(EngineError, match="34 tokens, and it attends to the last 20 only; set"):
        TransformersEngine(windowed, [END], 4, "prefix_tree").score(SCORED, 4, 1.0, no_progress)
    mixing = new_model(7)
    original = mixing.forward

    def without_mask(**arguments: Any) -> Any:
        if arguments["attention_mask"].ndim == 4:
            arguments["attention_mask"] = None
        return original(**arguments)

    mixing.forward = without_mask
    with pytest.raises(EngineError, match=r"prefix_tree is not for .* a probability differs by"):
        TransformersEngine(mixing, [END], 4, "prefix_tree").score(SCORED, 4, 1.0, no_progress)


def test_a_damaged_policy_is_said_and_scores_nothing(new_model: Any) -> None:
    broken = new_model()
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    engine = TransformersEngine(broken, [END], 4)
    with pytest.raises(EngineError, match="NaN or infinity"):
        engine.sample(requests(3), SETTINGS, no_progress)
    for scoring in (engine, TransformersEngine(broken, [END], 4, "prefix_tree")):
        with pytest.raises(EngineError, match="NaN or infinity"):
            scoring.score(SCORED[:3], 4, 1.0, no_progress)


def test_built_from_settings(policy_dir: Path, compute: ComputeParams, tmp_path: Path) -> None:
    component = Component(name="transformers", options={"batch_size": 3})
    engine = build_engine(component, policy_dir, compute)
    assert len(engine.sample(requests(4), SETTINGS, no_progress)) == 4
    with pytest.raises(ConfigError, match="batch_size"):
        build_engine(Component(name="transformers", options={}), policy_dir, compute)
    with pytest.raises(CheckpointError, match="no tokenizer in"):
        build_engine(component, tmp_path, compute)
