"""vLLM in this process against transformers: one engine for all, started once (60 s)."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flask
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from distil_core.campaign.load import parse_iteration_params
from distil_core.config.models import Component, ComputeParams, IterationParams
from distil_core.engines import build_engine
from distil_core.engines.base import (
    MonitoredEngine,
    SampledResponse,
    SampleRequest,
    SamplingSettings,
    ScoredResponse,
    ScoreRequest,
    continuing,
)
from distil_core.engines.transformers import TransformersEngine
from distil_core.engines.vllm import engine as vllm_engine
from distil_core.engines.vllm.engine import VllmEngine
from distil_core.engines.vllm.options import Options
from distil_core.engines.vllm.pool import POOL
from distil_core.errors import CheckpointError, ConfigError, EngineError
from distil_core.policy.batching import collate, response_logits
from distil_core.policy.model import load_model
from distil_core.progress import no_progress
from distil_core.tables.schemas import FEEDBACK, ROLLOUTS
from distil_core.tables.store import read_rows, read_table, shard_files
from distil_core.workspace import Workspace
from distil_tasks import base, consult, evaluate, gate, problems, sample, tabulate, train
from tests.engines.conftest import END

PROJECT = Path(__file__).parents[2]
RANDOM = np.random.default_rng(0)
CONTEXTS = [RANDOM.integers(3, 99, length).tolist() for length in (1, 9, 4, 4, 17, 2, 9, 30)]
SETTINGS = SamplingSettings(max_new_tokens=12, temperature=1.0, top_p=1.0)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
COMPONENT = Component(
    name="vllm",
    options={
        "mode": "in_process",
        "max_logprobs": 99,
        "max_num_sequences": 24,
        # So few that contexts are not all read at once, which must not show.
        "max_batched_tokens": 128,
    },
)


@pytest.fixture(scope="module")
def compute() -> ComputeParams:
    return ComputeParams(device=DEVICE, dtype="float32", num_threads=1)


@pytest.fixture(scope="module")
def build(compute: ComputeParams) -> Any:
    """`build(policy_dir)`: always the same vLLM, with that policy in it."""
    yield lambda folder: build_engine(COMPONENT, folder, compute)
    POOL.close()


@pytest.fixture(scope="module")
def policy(loud_policy: Callable[[int], Path]) -> Path:
    return loud_policy(7)


@pytest.fixture(scope="module")
def engine(build: Any, policy: Path) -> Any:
    return build(policy)


@pytest.fixture(scope="module")
def model(policy: Path, compute: ComputeParams) -> Any:
    return load_model(policy, compute.model_copy(update={"device": "cpu"}))


@pytest.fixture(scope="module")
def reference(model: Any) -> TransformersEngine:
    return TransformersEngine(model, [END], batch_size=16)


def requests(count: int = 40) -> list[SampleRequest]:
    # Seeds of 63 bits, as the campaign's are.
    return [SampleRequest(CONTEXTS[i % len(CONTEXTS)], 2**62 + 1000 * i) for i in range(count)]


SCORED = [
    ScoreRequest(CONTEXTS[i % len(CONTEXTS)], RANDOM.integers(0, 99, 1 + i % 6).tolist())
    for i in range(17)
]


@torch.inference_mode()
def plain_logprobs(model: Any, context: Any, response: Any, temperature: float) -> np.ndarray:
    batch = collate([context], [response], "cpu")
    logits = response_logits(model, batch)[0].double() / temperature
    return np.asarray(torch.log_softmax(logits, -1))


@pytest.mark.parametrize(
    ("temperature", "top_p"), [(1.0, 1.0), (0.7, 1.0), (1.3, 0.9), (1.0, 0.5), (0.3, 1.0)]
)
def test_behaviour_logprobs_are_those_of_the_sampler_really_used(
    model: Any, engine: VllmEngine, temperature: float, top_p: float
) -> None:
    """Teacher-forced by transformers, one row at a time; the nucleus redone in numpy."""
    asked = requests()
    responses = engine.sample(asked, SamplingSettings(12, temperature, top_p), no_progress)
    for request, response in zip(asked, responses, strict=True):
        logprobs = plain_logprobs(model, request.context_ids, response.token_ids, temperature)
        expected = []
        for token, row in zip(response.token_ids, logprobs, strict=True):
            order = np.argsort(-row, kind="stable")
            mass = np.exp(row[order]).cumsum()
            nucleus = order[: int((mass < top_p).sum()) + 1] if top_p < 1 else order
            assert token in nucleus
            expected.append(row[token] - np.log(np.exp(row[nucleus]).sum()))
        np.testing.assert_allclose(response.behaviour_logprobs, expected, rtol=0, atol=1e-5)
    assert isinstance(engine, MonitoredEngine)
    drift = engine.drift()
    assert drift["engine_logprob_error_max"] < 1e-5
    assert drift["engine_tokens_checked"] > 50
    assert drift["engine_tokens_outside_nucleus"] == 0


def test_responses_end_at_the_first_end_token_or_at_the_limit(engine: VllmEngine) -> None:
    responses = engine.sample(requests(100), SETTINGS, no_progress)
    for response in responses:
        assert len(response.behaviour_logprobs) == len(response.token_ids)
        assert all(logprob <= 0 for logprob in response.behaviour_logprobs)
        if response.finish_reason == "stop":
            assert response.token_ids.index(END) == len(response.token_ids) - 1
        else:
            assert END not in response.token_ids
            assert len(response.token_ids) == SETTINGS.max_new_tokens
    assert len({len(response.token_ids) for response in responses}) > 4
    assert {response.finish_reason for response in responses} == {"stop", "length"}


def test_any_end_token_ends_a_response(
    engine: VllmEngine, build: Any, policy: Path, tmp_path: Path
) -> None:
    """Of those that generation_config.json names; the one that came is kept."""
    long = engine.sample(requests(60), SETTINGS, no_progress)
    ends = {END, 17, 40}
    folder = shutil.copytree(policy, tmp_path / "policy")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [17, 40]}))
    found = build(folder).sample(requests(60), SETTINGS, no_progress)
    for one, whole in zip(found, long, strict=True):
        at = next((i for i, token in enumerate(whole.token_ids) if token in ends), None)
        kept = len(whole.token_ids) if at is None else at + 1
        assert one.token_ids == whole.token_ids[:kept]
        assert one.finish_reason == ("length" if at is None else "stop")
    assert {17, 40} & {one.token_ids[-1] for one in found}


def test_an_end_token_at_the_limit_is_an_end(engine: VllmEngine) -> None:
    asked = requests(100)
    long = engine.sample(asked, SETTINGS, no_progress)
    ended = [i for i, row in enumerate(long) if row.finish_reason == "stop"]
    index = max(ended, key=lambda i: len(long[i].token_ids))
    exact = SamplingSettings(len(long[index].token_ids), 1.0, 1.0)
    (whole,) = engine.sample([asked[index]], exact, no_progress)
    assert whole == long[index]
    shorter = SamplingSettings(len(long[index].token_ids) - 1, 1.0, 1.0)
    (cut,) = engine.sample([asked[index]], shorter, no_progress)
    assert (cut.token_ids, cut.finish_reason) == (long[index].token_ids[:-1], "length")


@pytest.mark.skipif(DEVICE == "cuda", reason="exact on a CPU; benchmarks/engines.py measures a GPU")
def test_the_bits_depend_neither_on_the_batch_nor_on_the_order(engine: VllmEngine) -> None:
    asked = requests()
    expected = engine.sample(asked, SETTINGS, no_progress)
    torch.manual_seed(5)
    assert engine.sample(asked, SETTINGS, no_progress) == expected
    shuffled = RANDOM.permutation(len(asked))
    found = engine.sample([asked[i] for i in shuffled], SETTINGS, no_progress)
    assert found == [expected[i] for i in shuffled]
    alone = [engine.sample([asked[i]], SETTINGS, no_progress)[0] for i in range(8)]
    assert alone == expected[:8]


def test_a_rollouts_seed_decides_its_tokens(engine: VllmEngine) -> None:
    def tokens(seeds: list[int]) -> list[list[int]]:
        asked = [SampleRequest(CONTEXTS[1], seed) for seed in seeds]
        return [row.token_ids for row in engine.sample(asked, SETTINGS, no_progress)]

    first, second = tokens([2**63 - 1, 2**63 - 1])
    assert first == second
    assert len({tuple(row) for row in tokens(list(range(20)))}) > 15


def test_first_tokens_follow_the_models_distribution(model: Any, engine: VllmEngine) -> None:
    asked = [SampleRequest(CONTEXTS[2], seed) for seed in range(2000)]
    one = SamplingSettings(1, 1.0, 1.0)
    tokens = [response.token_ids[0] for response in engine.sample(asked, one, no_progress)]
    masses = np.exp(plain_logprobs(model, CONTEXTS[2], [0], 1.0)[0])
    likely = masses > 5 / len(asked)
    counts = np.bincount(tokens, minlength=len(masses))
    observed = np.append(counts[likely], counts[~likely].sum())
    expected = np.append(masses[likely], masses[~likely].sum()) * len(asked)
    chi_square = ((observed - expected) ** 2 / np.maximum(expected, 1e-9)).sum()
    assert chi_square < len(observed) + 4 * np.sqrt(2 * len(observed))


def assert_same_scores(found: list[ScoredResponse], expected: list[ScoredResponse]) -> None:
    """Counts, log-probabilities and tails alike; ids too, where no two are as likely."""
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.counts_t, other.counts_t)
        np.testing.assert_allclose(one.logprobs, other.logprobs, rtol=0, atol=1e-5)
        np.testing.assert_allclose(one.tail_logprobs_t, other.tail_logprobs_t, rtol=0, atol=1e-5)
        differ = one.token_ids != other.token_ids
        # Two tokens as likely within rounding may change places, or one be left out for the other.
        assert differ.mean() < 0.02
        assert {name: values.dtype for name, values in vars(one).items()} == {
            name: values.dtype for name, values in vars(other).items()
        }


@pytest.mark.parametrize(
    ("top_k", "top_p"), [(1, 1.0), (5, 1.0), (5, 0.5), (99, 0.9), (99, 1.0), (500, 1.0), (16, 1e-9)]
)
def test_scores_are_those_of_transformers(
    engine: VllmEngine, reference: TransformersEngine, top_k: int, top_p: float
) -> None:
    found = engine.score(SCORED, top_k, top_p, no_progress)
    assert_same_scores(found, reference.score(SCORED, top_k, top_p, no_progress))


def test_scores_do_not_depend_on_the_chunk(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = engine.score(SCORED, 6, 0.9, no_progress)
    reported: list[tuple[int, int]] = []
    for at_once in (1, 300):
        monkeypatch.setattr(vllm_engine, "_ENTRIES_AT_ONCE", at_once)
        found = engine.score(SCORED, 6, 0.9, lambda *step: reported.append(step))
        for one, other in zip(found, expected, strict=True):
            for name, values in vars(one).items():
                np.testing.assert_array_equal(values, getattr(other, name))
    assert reported == 2 * [(done, len(SCORED)) for done in range(1, len(SCORED) + 1)]


def test_what_cannot_be_asked_for_is_said(engine: VllmEngine, build: Any, policy: Path) -> None:
    # vLLM's engine would die of it.
    with pytest.raises(EngineError, match="vocabulary has 0 to 98"):
        engine.sample([SampleRequest([5, 99], 1)], SETTINGS, no_progress)
    with pytest.raises(EngineError, match="from -1 to 6 were asked for"):
        engine.score([ScoreRequest([5, 6], [-1])], 3, 1.0, no_progress)
    assert engine.sample([], SETTINGS, no_progress) == []
    assert engine.score([], 3, 0.9, no_progress) == []
    with pytest.raises(EngineError, match=r"temperatures from 0\.01"):
        engine.sample(requests(1), SamplingSettings(3, 0.001, 1.0), no_progress)
    with pytest.raises(EngineError, match=r"130 tokens .* exceed max_model_len 128"):
        engine.sample(requests(8), SamplingSettings(100, 1.0, 1.0), no_progress)
    with pytest.raises(EngineError, match="exceed max_model_len 128"):
        engine.score([ScoreRequest([5], [6] * 127)], 3, 1.0, no_progress)
    assert len(engine.score([ScoreRequest([5], [6] * 126)], 3, 1.0, no_progress)[0].counts_t) == 126


def same_tokens(found: list[SampledResponse], expected: list[SampledResponse]) -> bool:
    return [row.token_ids for row in found] == [row.token_ids for row in expected]


def test_it_starts_beside_modules_that_must_not_be_examined(engine: VllmEngine) -> None:
    """Outside of an application Flask's proxies raise at almost any question; vLLM asked them."""
    assert "flask" in sys.modules
    with pytest.raises(RuntimeError, match="outside of application context"):
        hasattr(flask.current_app, "__dict__")
    assert len(engine.sample(requests(1), SETTINGS, no_progress)) == 1


def test_weights_are_swapped_without_a_restart(
    build: Any, engine: VllmEngine, policy: Path, loud_policy: Callable[[int], Path]
) -> None:
    """Tied embeddings and a filled prefix cache included; the former engine takes its own back."""
    backend = engine._backend
    before = engine.sample(requests(), SETTINGS, no_progress)
    other = build(loud_policy(8))
    assert other._backend is backend
    after = other.sample(requests(), SETTINGS, no_progress)
    assert not same_tokens(after, before)
    assert other.drift()["engine_logprob_error_max"] < 1e-5
    assert engine.sample(requests(), SETTINGS, no_progress) == before
    assert engine.drift()["engine_logprob_error_max"] < 1e-5


def answered_in_turns(
    engine: VllmEngine, before_turn: Callable[[], object] = lambda: None, order: int = 1
) -> list[SampledResponse]:
    """All responses of rollouts of three turns, whose contexts are longer than a block."""
    responses = []
    token_ids = [np.random.default_rng(n).integers(3, 99, 30 + n).tolist() for n in range(10)]
    for turn in range(3):
        before_turn()
        asked = [SampleRequest(ids, 2**62 + 100 * n + turn) for n, ids in enumerate(token_ids)]
        turned = engine.sample(asked[::order], SETTINGS, no_progress)[::order]
        responses += turned
        for number, response in enumerate(turned):
            observation = np.random.default_rng([number, turn]).integers(3, 99, 7 + number)
            token_ids[number] += [*response.token_ids, *observation.tolist()]
    return responses


def test_turns_are_continued_from_the_prefix_cache(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit as if nothing had been kept, in float32 on a CPU."""
    backend = engine._backend
    cached: list[int] = []
    generate = backend._generate

    def counting(*arguments: Any) -> Any:
        outputs = generate(*arguments)
        cached.extend(output.num_cached_tokens for output in outputs)
        return outputs

    monkeypatch.setattr(backend, "_generate", counting)

    def forget() -> None:
        assert backend._llm.reset_prefix_cache()

    with continuing(engine) as sampler:
        expected = answered_in_turns(sampler, forget)
        assert sum(cached) == 0
        cached.clear()
        forget()
        found = answered_in_turns(sampler)
        # Of the second and third turn all whole blocks of 32 that came before.
        assert cached[:10] == [0] * 10
        assert all(count >= 32 and count % 32 == 0 for count in cached[10:])
        if DEVICE == "cuda":
            assert same_tokens(found, expected)
        else:
            assert found == expected
            assert answered_in_turns(sampler, order=-1) == expected


def test_no_past_of_other_weights_is_continued(
    build: Any, engine: VllmEngine, loud_policy: Callable[[int], Path]
) -> None:
    other = build(loud_policy(8))
    expected = answered_in_turns(engine)
    alone = answered_in_turns(other)
    with continuing(engine) as sampler:
        # Between two turns the other's weights are loaded and fill the cache with the same tokens.
        assert answered_in_turns(sampler, lambda: answered_in_turns(other)) == expected
    assert answered_in_turns(other) == alone != expected


def test_the_drift_of_turns_is_that_of_all_of_them(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.sample(requests(1), SETTINGS, no_progress)  # Its weights are in vLLM from here on.
    loaded, rows, found = [], [], []
    drift, load = vllm_engine.Reference.drift, vllm_engine.Reference.__init__

    def loading(self: Any, *arguments: Any) -> None:
        loaded.append(self)
        load(self, *arguments)

    def watched(self: Any, asked: Any, responses: Any, settings: Any, num_rows: int) -> Any:
        rows.append(num_rows)
        found.append(drift(self, asked, responses, settings, num_rows))
        return found[-1]

    monkeypatch.setattr(vllm_engine.Reference, "__init__", loading)
    monkeypatch.setattr(vllm_engine.Reference, "drift", watched)
    with continuing(engine) as sampler:
        answered_in_turns(sampler)
        answered_in_turns(sampler)
    assert len(loaded) == 1
    assert rows == [16, 8, 4, 2, 1, 1]
    figures = engine.drift()
    assert figures["engine_tokens_checked"] == sum(one.num_tokens for one in found)
    assert figures["engine_logprob_error_max"] == max(one.largest for one in found)
    mean = sum(one.mean * one.num_tokens for one in found) / sum(one.num_tokens for one in found)
    assert figures["engine_logprob_error_mean"] == pytest.approx(mean)
    answered_in_turns(engine)
    assert engine.drift()["engine_tokens_checked"] == found[-1].num_tokens


def test_what_a_head_has_beyond_the_tokenizer_has_no_probability(
    build: Any, policy: Path, tmp_path: Path, compute: ComputeParams
) -> None:
    """The same weights with a smaller tokenizer, as published heads are padded."""
    known = 60
    padded = Path(shutil.copytree(policy, tmp_path / "padded"))
    content = json.loads((padded / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    content["model"]["vocab"] = {token: i for token, i in vocabulary.items() if i < known}
    (padded / "tokenizer.json").write_text(json.dumps(content))
    asked = [SampleRequest([5, 9, 17], seed) for seed in range(40)]
    scored = [ScoreRequest([5, 9, 17], list(range(3, 40))), ScoreRequest([4], [7, 1])]
    with_vllm = build(padded)
    reference = TransformersEngine(
        load_model(padded, compute.model_copy(update={"device": "cpu"})), [END], batch_size=16
    )
    responses = with_vllm.sample(asked, SETTINGS, no_progress)
    assert max(max(one.token_ids) for one in responses) < known
    rescored = reference.score(
        [ScoreRequest(r.context_ids, s.token_ids) for r, s in zip(asked, responses, strict=True)],
        known,
        1.0,
        no_progress,
    )
    for response, row in zip(responses, rescored, strict=True):
        ids, logprobs = (part.reshape(-1, known) for part in (row.token_ids, row.logprobs))
        own = logprobs[ids == np.array(response.token_ids)[:, None]]
        np.testing.assert_allclose(response.behaviour_logprobs, own, rtol=0, atol=1e-5)
    for top_k, top_p in ((99, 1.0), (8, 1.0), (99, 0.8)):
        assert_same_scores(
            with_vllm.score(scored, top_k, top_p, no_progress),
            reference.score(scored, top_k, top_p, no_progress),
        )
    whole = build(policy).score(scored, 99, 1.0, no_progress)
    assert all(row.counts_t.tolist() == [99] * len(row.counts_t) for row in whole)


def test_a_folder_written_again_is_another_policy(
    build: Any, policy: Path, loud_policy: Callable[[int], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "policy"
    shutil.copytree(policy, folder)
    first = build(folder).sample(requests(8), SETTINGS, no_progress)
    shutil.rmtree(folder)
    shutil.copytree(loud_policy(9), folder)
    second = build(folder).sample(requests(8), SETTINGS, no_progress)
    assert not same_tokens(first, second)


def test_a_failed_canary_stops_before_anything_is_sampled(
    build: Any,
    engine: VllmEngine,
    policy: Path,
    loud_policy: Callable[[int], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A swap that does nothing, which is what vLLM's own did to the output layer."""
    expected = engine.sample(requests(8), SETTINGS, no_progress)
    rpc = engine._backend._llm.collective_rpc

    def ignoring(method: str, *args: Any, **kwargs: Any) -> Any:
        return None if method == "distil_load_policy" else rpc(method, *args, **kwargs)

    monkeypatch.setattr(engine._backend._llm, "collective_rpc", ignoring)
    with pytest.raises(EngineError, match=r"differ from transformers' by up to .*canary_limit"):
        build(loud_policy(10))
    monkeypatch.undo()
    # Not trusted either once it was refused: the right one is loaded anew.
    monkeypatch.setattr(engine._backend._llm, "collective_rpc", ignoring)
    with pytest.raises(EngineError, match="canary_limit"):
        build(loud_policy(10))
    monkeypatch.undo()
    assert engine.sample(requests(8), SETTINGS, no_progress) == expected


def test_drift_past_its_limit_stops_the_run(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sampler tells log-probabilities of another temperature than it sampled at."""
    plain = vllm_engine.Reference.drift

    def hotter(self: Any, asked: Any, responses: Any, settings: Any, rows: int) -> Any:
        return plain(self, asked, responses, SamplingSettings(12, 1.1, 1.0), rows)

    monkeypatch.setattr(vllm_engine.Reference, "drift", hotter)
    with pytest.raises(EngineError, match=r"drifted from transformers' .*drift_limit 0\.001"):
        engine.sample(requests(), SETTINGS, no_progress)
    assert engine.drift()["engine_logprob_error_mean"] > 1e-3


def test_a_damaged_policy_is_refused(
    build: Any, engine: VllmEngine, policy: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(policy, folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] = torch.full_like(tensors["model.norm.weight"], float("nan"))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EngineError, match="NaN or infinity"):
        build(folder)
    assert engine.score(SCORED[:1], 3, 1.0, no_progress)
    with pytest.raises(CheckpointError, match="no tokenizer in"):
        build(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "mode"),
        ({"mode": "in_process", "base_urls": ["http://a:1"]}, "base_urls are the servers of"),
        ({"mode": "external_servers"}, "name at least one"),
        ({"mode": "external_servers", "base_urls": ["a:1"]}, "base_urls"),
        ({"mode": "external_servers", "base_urls": ["http://a:1"] * 2}, "twice"),
        ({"mode": "in_process", "max_num_sequences": 64, "max_batched_tokens": 8}, "one token"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    from distil_core.engines import ENGINES

    with pytest.raises(ConfigError, match=message):
        ENGINES.options("vllm", options)
    assert Options(mode="managed_server").base_urls == ()


def test_a_campaign_samples_scores_and_evaluates_with_it(
    engine: VllmEngine, tmp_path: Path
) -> None:
    """All stages of an iteration; the expert has other weights in the same vLLM."""
    component = COMPONENT.model_dump()
    values = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    changes: dict[str, Any] = {
        "problems": {"num_warm_start": 40, "num_train": 24, "num_eval": 10},
        "sample": {"engine": component, "num_prompts": 8},
        "tabulate": {
            "expert": {"name": "self", "options": {"weights": "frozen", "engine": component}}
        },
        "train": {"num_steps": 3, "batch_rollouts": 8},
        "evaluate": {"num_samples": 4},
        "gate": {"margins": {"pass_at_1": 1.0}, "on_regression": "continue"},
        "base": {
            # The engine's own architecture, so that it need not start anew.
            "architecture": {
                "hidden_size": 64,
                "num_layers": 2,
                "num_heads": 2,
                "intermediate_size": 64,
                "max_positions": 128,
            },
            "phases": [{"num_steps": 10, "correction_fraction": 0.2}],
        },
    }
    for section, settings in changes.items():
        values[section] |= settings
    workspace = Workspace(tmp_path)

    def params(iteration: int) -> IterationParams:
        return parse_iteration_params(
            {**values, "iteration": iteration, "stage_versions": {}}, f"{iteration}.yaml"
        )

    for stage in (problems, base, evaluate):
        stage.body(workspace, params(0), no_progress)
    for iteration in (1, 2):
        for stage in (sample, consult, tabulate, train, evaluate, gate):
            stage.body(workspace, params(iteration), no_progress)
    assert len(POOL._entries) == 1
    _, context = read_table(workspace.rollouts_file(2), ROLLOUTS)
    assert 0 < context["engine_drift"]["engine_logprob_error_max"] < 1e-5
    metrics = json.loads(workspace.metrics_file(2).read_text(encoding="utf-8"))
    assert 0 < metrics["engine_logprob_error_max"] < 1e-5
    curve = workspace.train_curve_file(2).read_text(encoding="utf-8").splitlines()
    assert "engine_logprob_error_max" in curve[0]
    with_transformers = params(2).model_copy(
        update={
            "tabulate": params(2).tabulate.model_copy(
                update={
                    "expert": Component(
                        name="self", options={"weights": "frozen", "batch_size": 64}
                    )
                }
            )
        }
    )
    (shard,) = shard_files(workspace.feedback_dir(2))
    found = read_rows(shard, FEEDBACK)
    tabulate.body(workspace, with_transformers, no_progress)
    for row, expected in zip(found, read_rows(shard, FEEDBACK), strict=True):
        assert row.expert_counts == expected.expert_counts
        np.testing.assert_allclose(row.expert_logprobs, expected.expert_logprobs, rtol=0, atol=1e-5)
