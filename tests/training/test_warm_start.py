"""The warm start: what it is taught, that it learns, and that it does so alike each time (5 s)."""

import re
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from distil_core.config.models import (
    Component,
    ConsultParams,
    ContextParams,
    FromScratchBase,
    WarmStartParams,
)
from distil_core.errors import TrainingError
from distil_core.policy.batching import collate, response_logits
from distil_core.policy.new_model import new_model
from distil_core.policy.tokenizer import decode
from distil_core.problems.base import Problem
from distil_core.problems.chain_arithmetic import ChainArithmetic, Options
from distil_core.problems.splits import make_splits
from distil_core.progress import no_progress
from distil_core.seeds import generator
from distil_core.training.warm_start import (
    BatchComputing,
    WarmStartExample,
    _backward,
    _batch,
    _parts,
    _supervised_loss,
    require_computable,
    warm_start,
)
from distil_core.training.warm_start_data import correction_examples, demonstration_examples
from distil_core.verifiers import build_verifier

MODULUS = 7
SOURCE = ChainArithmetic(
    Options(num_operations=5, modulus=MODULUS, demonstrator_slip_probability=0.57)
)
CONTEXT = ContextParams(
    student_template="{prompt}|",
    expert_template="{prompt}?{attempt}#{verdict} {execution_trace}|",
    max_context_tokens=96,
)
VERIFIER = build_verifier(
    ConsultParams(
        verifier=Component(name="chain_arithmetic", options={"modulus": MODULUS}), reveal="nothing"
    )
)


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    return make_splits(SOURCE, {"eval": 0, "train": 0, "warm_start": 400}, 5)["warm_start"]


@pytest.fixture(scope="module")
def demonstrations(problems: list[Problem], tokenizer: Any) -> list[WarmStartExample]:
    return demonstration_examples(problems, SOURCE, tokenizer, CONTEXT, 5)


@pytest.fixture(scope="module")
def corrections(problems: list[Problem], tokenizer: Any) -> list[WarmStartExample]:
    return correction_examples(problems, SOURCE, VERIFIER, tokenizer, CONTEXT, 5)


def base_params(settings: dict[str, Any], **changes: Any) -> FromScratchBase:
    return FromScratchBase(**{**settings["base"], "batch_size": 32, "warmup_steps": 2, **changes})


def test_corrections_label_every_state_with_what_the_oracle_says_there(
    problems: list[Problem], corrections: list[WarmStartExample], tokenizer: Any
) -> None:
    """Recomputed here by Python's own arithmetic, from the attempt's own lines."""
    seen = {"correct": 0, "wrong": 0, "malformed": 0}
    for problem, example in zip(problems, corrections, strict=True):
        random = generator(5, "base", "corruption", problem.problem_id)
        attempt = SOURCE.corrupted_attempt(problem, random)
        steps = re.findall(r"[+-]\d", problem.prompt)
        expected = [
            str(eval((attempt[state - 1] if state else problem.prompt[0]) + steps[state]) % MODULUS)
            if state < len(steps)
            else tokenizer.eos_token
            for state in range(len(attempt) + 1)
        ]
        assert tokenizer.convert_ids_to_tokens(example.label_ids) == expected
        assert tokenizer.convert_ids_to_tokens(example.input_ids) == [*attempt, tokenizer.eos_token]
        verification = VERIFIER.verify(problem, attempt)
        seen[verification.verdict] += 1
        assert decode(tokenizer, example.context_ids) == (
            f"{problem.prompt}?{attempt}#{verification.verdict} {verification.feedback[0].text}|"
        )
    assert min(seen.values()) >= 10, "all verdicts are practised"


def test_demonstrations_are_the_demonstrators_in_the_students_context(
    problems: list[Problem], demonstrations: list[WarmStartExample], tokenizer: Any
) -> None:
    for problem, example in zip(problems, demonstrations, strict=True):
        random = generator(5, "base", "demonstration", problem.problem_id)
        assert decode(tokenizer, example.context_ids) == f"{problem.prompt}|"
        assert decode(tokenizer, example.input_ids) == SOURCE.demonstration(problem, random)
        assert example.label_ids == example.input_ids
        assert example.input_ids[-1] == tokenizer.eos_token_id


def test_both_contexts_end_in_one_token(
    demonstrations: list[WarmStartExample], corrections: list[WarmStartExample]
) -> None:
    assert len({example.context_ids[-1] for example in [*demonstrations, *corrections]}) == 1


def test_examples_do_not_depend_on_which_others_there_are(
    problems: list[Problem], corrections: list[WarmStartExample], tokenizer: Any
) -> None:
    some = list(reversed(problems[100:110]))
    again = correction_examples(some, SOURCE, VERIFIER, tokenizer, CONTEXT, 5)
    assert again == list(reversed(corrections[100:110]))


def test_the_seed_gives_the_weights_and_nothing_else_moves(settings: dict[str, Any]) -> None:
    from distil_core.policy.tokenizer import character_tokenizer

    architecture = base_params(settings).architecture
    tokenizer = character_tokenizer("")
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first, second = (new_model(architecture, tokenizer, 3) for _ in range(2))
    other = new_model(architecture, tokenizer, 4)
    assert torch.equal(torch.random.get_rng_state(), state)
    pairs = zip(first.parameters(), second.parameters(), other.parameters(), strict=True)
    for mine, same, different in pairs:
        assert torch.equal(mine, same)
        assert not torch.equal(mine, different) or mine.dim() == 1
    assert first.config.vocab_size == len(tokenizer)
    assert first.config.eos_token_id == tokenizer.eos_token_id
    assert first.config.tie_word_embeddings


def mean_loss(model: Any, examples: list[WarmStartExample]) -> float:
    batch = collate([e.context_ids for e in examples], [e.input_ids for e in examples], "cpu")
    labels = [label for example in examples for label in example.label_ids]
    with torch.inference_mode():
        logits = response_logits(model, batch)[batch.response_mask_bt]
    return cross_entropy(logits, torch.tensor(labels)).item()


def test_it_learns_both_kinds_and_is_the_same_each_time(
    settings: dict[str, Any],
    new_model: Any,
    demonstrations: list[WarmStartExample],
    corrections: list[WarmStartExample],
) -> None:
    phases = [{"num_steps": 60, "correction_fraction": 0.5}]
    params = base_params(settings, phases=phases)
    reported: list[tuple[int, int]] = []
    models = [new_model(1), new_model(1)]
    before = [mean_loss(models[0], kind) for kind in (demonstrations, corrections)]
    for model in models:
        warm_start(
            model, demonstrations, corrections, params, 9, lambda *step: reported.append(step)
        )
    after = [mean_loss(models[0], kind) for kind in (demonstrations, corrections)]
    assert all(late < early - 1 for early, late in zip(before, after, strict=True)), (before, after)
    for mine, same in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(mine, same)
    assert reported[:60] == [(step, 60) for step in range(1, 61)]
    assert not models[0].training


@pytest.mark.usefixtures("exact_norms")
def test_in_trees_it_learns_the_same(
    new_model: Any,
    demonstrations: list[WarmStartExample],
    corrections: list[WarmStartExample],
) -> None:
    model = new_model(1).double()
    examples = [*corrections[:6], *demonstrations[:20], *demonstrations[:2]]
    found = []
    for layout in ("padded", "prefix_tree"):
        model.zero_grad()
        loss = _supervised_loss(model, _batch(examples, layout))
        loss.backward()
        found.append([loss.detach(), *(p.grad.clone() for p in model.parameters())])
    for padded, trees in zip(*found, strict=True):
        torch.testing.assert_close(trees, padded, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_the_share_of_corrections_is_what_is_trained_on(
    settings: dict[str, Any],
    new_model: Any,
    demonstrations: list[WarmStartExample],
    corrections: list[WarmStartExample],
    fraction: float,
) -> None:
    """At 0 other corrections change nothing, at 1 other demonstrations do not."""
    phases = [{"num_steps": 2, "correction_fraction": fraction}]
    params = base_params(settings, phases=phases)
    weights = []
    for shown, asked in (
        (demonstrations, corrections),
        (demonstrations, corrections[:1]),
        (demonstrations[:1], corrections),
    ):
        model = new_model(1)
        warm_start(model, shown, asked, params, 9, no_progress)
        weights.append(model.get_input_embeddings().weight)
    assert torch.equal(weights[0], weights[1]) == (fraction == 0)
    assert torch.equal(weights[0], weights[2]) == (fraction == 1)


def test_a_warm_start_that_blows_up_is_said(
    settings: dict[str, Any],
    new_model: Any,
    demonstrations: list[WarmStartExample],
    corrections: list[WarmStartExample],
) -> None:
    params = base_params(settings, learning_rate=1e30, warmup_steps=0)
    with pytest.raises(TrainingError, match=r"warm start: non-finite .* Lower base\.learning_rate"):
        warm_start(new_model(), demonstrations, corrections, params, 9, no_progress)


@pytest.mark.parametrize("layout", ["padded", "prefix_tree"])
@pytest.mark.parametrize("size", [1, 5, 100])
@pytest.mark.parametrize("tiled_above", [None, 10])
@pytest.mark.usefixtures("exact_norms")
def test_in_parts_and_tiles_it_has_the_same_gradient(
    new_model: Any,
    demonstrations: list[WarmStartExample],
    corrections: list[WarmStartExample],
    layout: Any,
    size: int,
    tiled_above: int | None,
) -> None:
    model = new_model(1).double()
    examples = [*corrections[:6], *demonstrations[:9]]
    found = []
    for computing, rows_at_once, how in (
        (BatchComputing(), None, "padded"),
        (BatchComputing(tiled_above=tiled_above), size, layout),
    ):
        model.zero_grad()
        loss = _backward(model, _parts(examples, rows_at_once, how), computing, 3, lambda: None)
        found.append([torch.tensor(loss), *(p.grad.clone() for p in model.parameters())])
    for whole, parts in zip(*found, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-6, atol=1e-12, check_dtype=False)
    if tiled_above is not None:
        require_computable(
            model, examples, warm_params(layout), BatchComputing(tiled_above=tiled_above)
        )


def warm_params(layout: str) -> WarmStartParams:
    phases = [{"num_steps": 1, "correction_fraction": 0.5}]
    return WarmStartParams(phases=phases, learning_rate=0.1, layout=layout)
