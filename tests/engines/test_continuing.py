"""Rollouts in turns: the transformers engine continues rows with the past that it kept (20 s)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    MistralConfig,
    MistralForCausalLM,
    MptConfig,
    MptForCausalLM,
    PretrainedConfig,
)

from distil_core.config.models import Component, ComputeParams
from distil_core.engines import build_engine
from distil_core.engines._decoding import Decoder
from distil_core.engines._scoring import _TREE_LIMITS
from distil_core.engines.base import (
    ContinuingEngine,
    Engine,
    SampleRequest,
    SamplingSettings,
    continuing,
)
from distil_core.engines.transformers import TransformersEngine
from distil_core.errors import ConfigError
from distil_core.policy.model import save_policy
from distil_core.progress import no_progress

END = 1
RANDOM = np.random.default_rng(0)
CONTEXTS = [RANDOM.integers(3, 99, length).tolist() for length in (1, 9, 4, 4, 17, 2, 9, 30)]
SETTINGS = SamplingSettings(max_new_tokens=7, temperature=1.0, top_p=1.0)
MIB = 2**20


@pytest.fixture(scope="module")
def model(ending_model: Any) -> Any:
    return ending_model(7, 2.5)


def engine_of(model: Any, batch_size: int = 64, kept_past_mib: int = 64) -> TransformersEngine:
    return TransformersEngine(model, [END], batch_size, kept_past_mib=kept_past_mib)


class Rollouts(NamedTuple):
    """All tokens of each, and the log-probabilities of those that were sampled."""

    token_ids: list[list[int]]
    logprobs: list[list[float]]


def observation(number: int, turn: int) -> list[int]:
    """What answers a rollout; of some it is the same."""
    generator = np.random.default_rng([number % 5, turn])
    return generator.integers(3, 99, 1 + (3 * number + turn) % 6).tolist()


def in_turns(
    sampler: Engine,
    count: int = 24,
    num_turns: int = 3,
    calls: Callable[[int, list[int]], Sequence[Sequence[int]]] = lambda _, numbers: [numbers],
) -> Rollouts:
    """calls: which rollouts are asked for together in a turn, and in what order."""
    token_ids = [list(CONTEXTS[number % len(CONTEXTS)]) for number in range(count)]
    logprobs: list[list[float]] = [[] for _ in range(count)]
    for turn in range(num_turns):
        for call in calls(turn, list(range(count))):
            # Some rollouts sample the same, seeds included, until their observations differ.
            asked = [SampleRequest(token_ids[n], 1000 * (n % 16) + turn) for n in call]
            for number, response in zip(
                call, sampler.sample(asked, SETTINGS, no_progress), strict=True
            ):
                token_ids[number] += [*response.token_ids, *observation(number, turn)]
                logprobs[number] += response.behaviour_logprobs
    return Rollouts(token_ids, logprobs)


def assert_same(found: Rollouts, expected: Rollouts, limit: float = 1e-5) -> None:
    """The same tokens; log-probabilities but for rounding."""
    assert found.token_ids == expected.token_ids
    for one, other in zip(found.logprobs, expected.logprobs, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=limit)


@contextmanager
def computed(model: Any) -> Iterator[list[int]]:
    """The numbers of tokens, padding aside, that each forward pass is given."""
    seen: list[int] = []

    def count(_: Any, __: Any, kwargs: dict[str, Any]) -> None:
        ids, mask = kwargs["input_ids"], kwargs["attention_mask"]
        seen.append(ids.numel() if mask is None else int(mask[:, -ids.shape[1] :].sum()))

    hook = model.register_forward_pre_hook(count, with_kwargs=True)
    yield seen
    hook.remove()


@pytest.fixture(scope="module")
def from_scratch(model: Any) -> Rollouts:
    """Every turn computed anew, rollout by rollout."""
    return in_turns(engine_of(model, 1), calls=lambda _, numbers: [[n] for n in numbers])


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_tokens_depend_on_no_batch_order_or_split_into_calls(
    model: Any, from_scratch: Rollouts, data: st.DataObject
) -> None:
    """Whatever of it was kept: all, none, or what fits."""
    batch_size = data.draw(st.integers(1, 30))
    kept_past_mib = data.draw(st.sampled_from([0, 1, 64]))

    def calls(_: int, numbers: list[int]) -> list[list[int]]:
        order = data.draw(st.permutations(numbers))
        cuts = sorted(data.draw(st.sets(st.integers(1, len(numbers) - 1), max_size=4)))
        ends = [*cuts, len(numbers)]
        return [order[start:end] for start, end in zip([0, *cuts], ends, strict=True)]

    with continuing(engine_of(model, batch_size, kept_past_mib)) as sampler:
        if kept_past_mib == 1:
            # Less than all rollouts need, at 256 bytes a token.
            sampler._kept._max_bytes = 150 * 256  # type: ignore[attr-defined]
        assert_same(in_turns(sampler, calls=calls), from_scratch)


def test_the_same_calls_give_the_same_bits(model: Any) -> None:
    results = []
    for _ in range(2):
        with continuing(engine_of(model, 7)) as sampler:
            results.append(in_turns(sampler))
    assert results[0] == results[1]


def test_the_first_turn_has_the_bits_of_an_engine_that_keeps_nothing(model: Any) -> None:
    engine = engine_of(model, 7)
    asked = [SampleRequest(CONTEXTS[i % len(CONTEXTS)], i) for i in range(40)]
    with continuing(engine) as sampler:
        assert sampler.sample(asked, SETTINGS, no_progress) == engine.sample(
            asked, SETTINGS, no_progress
        )


def test_nothing_is_computed_twice(model: Any, new_model: Any) -> None:
    """Exact where no rollout ends early: the context once, then each token once."""
    count, context, length, answer = 6, 9, 5, 4
    never = TransformersEngine(model, [98], 64, kept_past_mib=64)
    wanted = SamplingSettings(length, 1.0, 1.0)
    rows = RANDOM.integers(3, 98, (count, context)).tolist()
    with computed(model) as seen, continuing(never) as sampler:
        for turn in range(3):
            asked = [SampleRequest(row, 10 * turn + n) for n, row in enumerate(rows)]
            responses = sampler.sample(asked, wanted, no_progress)
            assert {response.finish_reason for response in responses} == {"length"}
            for row, response in zip(rows, responses, strict=True):
                row += [*response.token_ids, *RANDOM.integers(3, 98, answer).tolist()]
    # The last token of a turn is read together with what answers it.
    steps = [count] * (length - 1)
    later = [count * (1 + answer), *steps]
    assert seen == [count * context, *steps, *later, *later]


def test_what_rows_of_different_lengths_have_is_not_computed_twice(model: Any) -> None:
    """Each distinct beginning of a rollout once. Rows that ended stay in a batch for a while."""
    engine = engine_of(model, 1)
    token_ids = [list(context) for context in CONTEXTS]
    with computed(model) as seen, continuing(engine) as sampler:
        for turn in range(4):
            asked = [SampleRequest(row, 100 * turn + n) for n, row in enumerate(token_ids)]
            for number, response in enumerate(sampler.sample(asked, SETTINGS, no_progress)):
                token_ids[number] += [*response.token_ids, *observation(number, turn)]
    num_answered = [len(observation(number, 3)) for number in range(len(token_ids))]
    # What answers the last turn is not read, and neither is what that turn drew last.
    assert sum(seen) == sum(map(len, token_ids)) - sum(num_answered) - len(token_ids)
    with computed(model) as seen_again:
        in_turns(engine, len(CONTEXTS), 4)
    assert sum(seen_again) > 2 * sum(seen)


def test_rollouts_that_begin_alike_share_what_was_kept(model: Any) -> None:
    context = CONTEXTS[7]
    with computed(model) as seen, continuing(engine_of(model)) as sampler:
        sampler.sample([SampleRequest(context, 1)], SETTINGS, no_progress)
        seen.clear()
        longer = [SampleRequest([*context, token], 2) for token in (5, 6, 7)]
        sampler.sample(longer, SETTINGS, no_progress)
        assert seen[0] == 3
        seen.clear()
        # The prediction after a context's last token was not kept, so that token is read again.
        sampler.sample([SampleRequest(context, 3)], SETTINGS, no_progress)
        assert seen[0] == 1


def test_an_engine_outside_keeps_nothing(model: Any) -> None:
    engine = engine_of(model)
    assert isinstance(engine, ContinuingEngine)
    asked = [SampleRequest(CONTEXTS[7], 1)]
    with continuing(engine) as sampler:
        sampler.sample(asked, SETTINGS, no_progress)
        store = sampler._kept  # type: ignore[attr-defined]
        assert store.num_bytes > 0
        with computed(model) as seen:
            engine.sample(asked, SETTINGS, no_progress)
            assert seen[0] == len(CONTEXTS[7])
    assert store.num_bytes == 0
    with computed(model) as seen:
        sampler.sample(asked, SETTINGS, no_progress)
        sampler.sample(asked, SETTINGS, no_progress)
    assert seen.count(len(CONTEXTS[7])) == 2
    assert store.num_bytes == 0


def test_what_is_kept_has_a_bound(model: Any, from_scratch: Rollouts) -> None:
    """At 256 bytes a token 1 MiB is 4096 tokens: of 200 rollouts the last ones."""
    largest = 0

    def watched(number: int, numbers: list[int]) -> list[list[int]]:
        nonlocal largest
        largest = max(largest, store.num_bytes)
        return [numbers[:90], numbers[90:]]

    with continuing(engine_of(model, kept_past_mib=1)) as sampler:
        store = sampler._kept  # type: ignore[attr-defined]
        found = in_turns(sampler, 240, 6, watched)
    assert MIB * 0.95 < largest <= MIB
    assert_same(found, in_turns(engine_of(model), 240, 6))


def test_zero_keeps_nothing(model: Any) -> None:
    with computed(model) as seen, continuing(engine_of(model, kept_past_mib=0)) as sampler:
        found = in_turns(sampler)
    with computed(model) as expected:
        assert found == in_turns(engine_of(model))
    assert seen == expected


def test_engines_that_keep_nothing_are_used_as_they_are(model: Any) -> None:
    class Plain:
        def __init__(self) -> None:
            engine = engine_of(model)
            self.sample, self.score = engine.sample, engine.score

    plain = Plain()
    with continuing(plain) as sampler:
        assert sampler is plain


SMALL: dict[str, Any] = {"vocab_size": 99, "bos_token_id": None, "eos_token_id": END}
KINDS: dict[str, tuple[type[Any], PretrainedConfig]] = {
    "learned positions": (
        GPT2LMHeadModel,
        GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=128, **SMALL),
    ),
    "biases by distance": (BloomForCausalLM, BloomConfig(hidden_size=16, n_layer=2, n_head=2)),
    "biases by column": (MptForCausalLM, MptConfig(d_model=16, n_layers=2, n_heads=2)),
}
for _, config in KINDS.values():
    config.vocab_size = 99


@pytest.mark.parametrize(
    ("kind", "kernel", "exact_to"),
    [
        ("rotations", "sdpa", 1e-12),
        ("learned positions", "sdpa", 1e-12),
        # These compute the weights of attention in float32, whatever the model's dtype.
        ("rotations", "eager", 1e-6),
        ("biases by distance", None, 1e-6),
        ("biases by column", None, 1e-6),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_logits_are_those_of_computing_from_scratch(
    new_model: Any,
    exact_norms: None,
    kind: str,
    kernel: str | None,
    exact_to: float,
    dtype: torch.dtype,
) -> None:
    """Rows with and without a past, of all lengths, in one batch; and those that come of them."""
    torch.manual_seed(0)
    model = new_model(3) if kind == "rotations" else KINDS[kind][0](KINDS[kind][1]).eval()
    if kernel is not None:
        model.set_attn_implementation(kernel)
    model = model.to(dtype)
    contexts = [RANDOM.integers(0, 99, length).tolist() for length in (12, 5, 3, 12, 8, 9)]
    pasts = [
        None if start is None else Decoder(model, [one], 1, 1).past(0, len(one)).first(start).copy()
        for one, start in zip(contexts, (7, 4, None, 1, None, 8), strict=True)
    ]
    decoder = Decoder(model, contexts, 8, 5, pasts)
    rows = [list(context) for context in contexts]
    largest = 0.0
    # In float64 every logit, else probabilities.
    compared = torch.softmax if dtype != torch.float64 else lambda logits, _: logits
    for source in ([0, 1, 2, 3, 4, 5], [0, 0, 2, 5, 5, 4, 1], [6, 3, 2], [0, 1, 2], [1, 1]):
        expected = torch.stack(
            [model(torch.tensor([row]), use_cache=False).logits[0, -1] for row in rows]
        )
        difference = compared(decoder.logits_rv, -1) - compared(expected, -1)
        largest = max(largest, float(difference.abs().max()))
        tokens = [(7 * number) % 99 for number in range(len(source))]
        decoder.step(np.array(source), np.array(tokens))
        rows = [[*rows[row], token] for row, token in zip(source, tokens, strict=True)]
    assert largest <= (exact_to if dtype == torch.float64 else _TREE_LIMITS[dtype])


@pytest.mark.parametrize("change", ["a sliding window", "rotations by length"])
def test_a_past_that_cannot_be_taken_apart_is_computed_again(change: str) -> None:
    torch.manual_seed(0)
    config = MistralConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=32,
        sliding_window=4 if change == "a sliding window" else None,
        **SMALL,
    )
    if change == "rotations by length":
        config.rope_parameters = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    model = MistralForCausalLM(config).eval()
    with computed(model) as expected:
        plain = in_turns(engine_of(model, 5))
    with computed(model) as seen, continuing(engine_of(model, 5)) as sampler:
        found = in_turns(sampler)
    assert found == plain
    assert seen == expected


def test_its_bound_is_a_setting(
    new_model: Any, tokenizer: Any, compute: ComputeParams, tmp_path: Any
) -> None:
    save_policy(new_model(), tokenizer, tmp_path / "policy")

    def built(**options: Any) -> Any:
        component = Component(name="transformers", options={"batch_size": 8, **options})
        return build_engine(component, tmp_path / "policy", compute)

    with continuing(built(kept_past_mib=3)) as sampler:
        assert sampler._kept._max_bytes == 3 * MIB
    with continuing(built()) as sampler:
        assert sampler._kept._max_bytes == 512 * MIB
    with pytest.raises(ConfigError, match="kept_past_mib"):
        built(kept_past_mib=-1)
