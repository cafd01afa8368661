"""Weights of prompts and positions: what they are, and that each objective's gradient is of the
weighted loss (6 s)."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from training_rows import END, as_rows, make_table

from distil_core.config.models import TrainParams
from distil_core.errors import TrainingError
from distil_core.objectives import OBJECTIVES
from distil_core.policy.batching import vocabulary_size
from distil_core.progress import no_progress
from distil_core.training import trainer
from distil_core.training.feedback_rows import FeedbackRows
from distil_core.training.state import TrainingSetup
from distil_core.training.step_batch import StepBatch, make_step_batch
from distil_core.training.token_weights import (
    disagreements,
    kept_groups,
    problem_weights,
    token_weights,
)

CONSTANT = {"loss_normalisation": "constant", "loss_constant": 7.0}
REWARDS = [1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.75, 0.25]
"""Of four prompts: always, never, half, half again."""


@pytest.fixture(scope="module")
def table(new_model: Any) -> list[Any]:
    rows = make_table(new_model)[:8]
    return [replace(row, reward=reward) for row, reward in zip(rows, REWARDS, strict=True)]


@pytest.fixture(scope="module")
def rows(table: list[Any]) -> FeedbackRows:
    return as_rows(table)


@pytest.fixture
def params(settings: dict[str, Any]) -> TrainParams:
    changes = {"num_steps": 3, "batch_rollouts": 4, "layout": "padded"}
    return TrainParams(**settings["train"] | changes)


def batch(
    model: Any,
    rows: FeedbackRows,
    groups: list[list[int]],
    micro_batch: int | None = None,
    weights: dict[int, float] | None = None,
    half_life: float | None = None,
) -> StepBatch:
    size = vocabulary_size(model)
    return make_step_batch(rows, groups, set(), size, micro_batch, "padded", weights, half_life)


def gradient(
    model: Any, one: StepBatch, objective: Any, disagreement: str = "unmeasured"
) -> tuple[list[torch.Tensor], dict[str, float]]:
    model.zero_grad(set_to_none=True)
    found = trainer._backward(model, one, objective, "float32", 11, disagreement=disagreement)
    return [parameter.grad.clone() for parameter in model.parameters()], found


def require_equal(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    largest = max(float(one.abs().max()) for one in expected)
    assert largest > 1e-6
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12 * largest)


@pytest.mark.usefixtures("exact_norms")
@pytest.mark.parametrize("micro_batch", [None, 3])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("forward_cross_entropy", CONSTANT),
        ("reverse_kl", CONSTANT),
        ("jensen_shannon", CONSTANT),
        ("sampled_reverse_kl", CONSTANT),
        ("behaviour_cloning", CONSTANT),
        ("grpo", CONSTANT),
        (
            "blend",
            {"reward_weight": 0.3, "distillation_options": CONSTANT, "grpo_options": CONSTANT},
        ),
    ],
)
def test_a_prompts_weight_scales_its_own_gradient(
    new_model: Any, rows: FeedbackRows, name: str, options: dict[str, Any], micro_batch: int | None
) -> None:
    """The sum of what each prompt alone has, times its weight, where the divisor is constant."""
    model = new_model(3).double()
    objective = OBJECTIVES.build(name, options)
    weights = {index: (0.0, 0.5, 2.0, 1.25)[index // 2] for index in range(8)}
    found, _ = gradient(model, batch(model, rows, rows.groups, micro_batch, weights), objective)
    expected: list[torch.Tensor] = []
    for group in rows.groups:
        alone, _ = gradient(model, batch(model, rows, [group]), objective)
        scaled = [weights[group[0]] * one for one in alone]
        expected = (
            scaled if not expected else [a + b for a, b in zip(expected, scaled, strict=True)]
        )
    require_equal(found, expected)


@pytest.mark.usefixtures("exact_norms")
def test_only_where_they_disagree_is_as_if_other_positions_were_masked(
    new_model: Any, rows: FeedbackRows
) -> None:
    """For a local objective, which has no credit that would tell the difference."""
    model = new_model(3).double()
    objective = OBJECTIVES.build("jensen_shannon", CONSTANT)
    whole = batch(model, rows, rows.groups)
    found, figures = gradient(model, whole, objective, "only")
    with torch.no_grad():
        student, _ = trainer.student_logprobs(
            model, whole.parts[0].tokens, whole.parts[0].expert_ids_btk
        )
    differs, share = disagreements(
        whole.labels, whole.parts[0].expert_ids_btk, student, vocabulary_size(model)
    )
    assert figures["disagreeing_fraction"] == pytest.approx(share)
    assert 0 < share < 1
    masked = replace(whole.labels, response_mask_bt=whole.labels.response_mask_bt & differs)
    expected, _ = gradient(model, replace(whole, labels=masked), objective)
    require_equal(found, expected)
    same, reported = gradient(model, whole, objective, "reported")
    assert reported["disagreeing_fraction"] == figures["disagreeing_fraction"]
    plain, unmeasured = gradient(model, whole, objective)
    assert "disagreeing_fraction" not in unmeasured
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(same, plain, strict=True))


def test_they_disagree_where_the_likeliest_token_is_another(
    new_model: Any, rows: FeedbackRows, table: list[Any]
) -> None:
    """Looked at one position after another, with the model's whole distribution."""
    model = new_model(3)
    one = batch(model, rows, rows.groups)
    tokens, ids = one.parts[0].tokens, one.parts[0].expert_ids_btk
    with torch.no_grad():
        student, _ = trainer.student_logprobs(model, tokens, ids)
        logits = trainer_logits(model, tokens)
    differs, share = disagreements(one.labels, ids, student, vocabulary_size(model))
    expected, num_labelled = 0, 0
    for b, row in enumerate(table):
        start = 0
        for t in range(len(row.response_ids) if row.has_expert else 0):
            count = int(row.expert_counts[t])
            stored = [int(i) for i in row.expert_ids[start : start + count]]
            masses = [float(m) for m in row.expert_logprobs[start : start + count]]
            start += count
            probabilities = logits[b, t].double().softmax(-1)
            ours = [float(probabilities[i]) for i in stored]
            place = masses.index(max(masses))
            tail = float(row.expert_tail_logprobs[t])
            is_other = ours.index(max(ours)) != place
            is_other |= 1 - sum(ours) > ours[place] and tail <= masses[place]
            assert bool(differs[b, t]) == is_other, (b, t)
            expected, num_labelled = expected + is_other, num_labelled + 1
    assert int(differs.sum()) == expected
    assert share == pytest.approx(expected / num_labelled)


def trainer_logits(model: Any, tokens: Any) -> torch.Tensor:
    from distil_core.policy.batching import response_logits

    return response_logits(model, tokens)


@given(st.lists(st.floats(0.01, 4.0), min_size=1, max_size=4), st.floats(0.5, 50.0))
@hypothesis_settings(max_examples=50, deadline=None)
def test_weights_of_positions_halve(of_rows: list[float], half_life: float) -> None:
    found = token_weights(range(len(of_rows)), 9, dict(enumerate(of_rows)), half_life)
    assert found is not None
    for row, weight in enumerate(of_rows):
        for position in range(9):
            expected = weight * 2 ** (-position / half_life)
            assert float(found[row, position]) == pytest.approx(expected, rel=1e-5)
    assert token_weights(range(3), 9, None, None) is None


def test_prompts_count_by_how_much_their_success_varies(
    rows: FeedbackRows, params: TrainParams
) -> None:
    assert problem_weights(rows, rows.groups, params) is None
    by_deviation = params.model_copy(update={"problem_weights": "success_deviation"})
    # 0, 0, .5 and .5, over their mean of .25.
    assert problem_weights(rows, rows.groups, by_deviation) == {
        index: 0.0 if index < 4 else 2.0 for index in range(8)
    }
    with pytest.raises(TrainingError, match="each of the 2 prompts is solved by all"):
        problem_weights(rows, rows.groups[:2], by_deviation)


@pytest.mark.parametrize(
    ("which", "kept"),
    [
        ("none", [0, 1, 2, 3]),
        ("all_correct", [1, 2, 3]),
        ("equal_rewards", [2, 3]),
        ("no_signal", [0, 1, 2, 3]),
    ],
)
def test_groups_are_dropped(
    rows: FeedbackRows, params: TrainParams, which: str, kept: list[int]
) -> None:
    chosen = params.model_copy(update={"dropped_groups": which})
    assert kept_groups(rows, chosen) == [rows.groups[index] for index in kept]


def test_without_an_expert_equal_rewards_are_no_signal(
    table: list[Any], params: TrainParams
) -> None:
    silent = [replace(row, has_expert=False, **NOTHING) for row in table]
    chosen = params.model_copy(update={"dropped_groups": "no_signal"})
    found = as_rows(silent)
    assert kept_groups(found, chosen) == found.groups[2:]
    with pytest.raises(TrainingError, match="no_signal leaves none of the 2 prompts"):
        kept_groups(as_rows(silent[:4]), chosen)


NOTHING: dict[str, Any] = {
    "expert_counts": [],
    "expert_ids": [],
    "expert_logprobs": [],
    "expert_tail_logprobs": [],
}


@pytest.mark.parametrize("micro_batch", [None, 2])
def test_training_with_all_of_them_says_what_was_left_out(
    new_model: Any, rows: FeedbackRows, params: TrainParams, micro_batch: int | None
) -> None:
    all_of_them = {
        "problem_weights": "success_deviation",
        "dropped_groups": "all_correct",
        "position_half_life_tokens": 3.0,
        "expert_disagreement": "only",
        "micro_batch_rollouts": micro_batch,
    }
    chosen = params.model_copy(update=all_of_them)
    objective = OBJECTIVES.build(params.objective.name, params.objective.options)
    models, curves = [new_model(3), new_model(3)], []
    for model, setting in zip(models, (chosen, params), strict=True):
        setup = TrainingSetup(setting, 5, end_token_ids=[END])
        curves.append(trainer.train(model, rows, objective, setup, no_progress))
    assert [row["dropped_group_fraction"] for row in curves[0]] == [0.25] * 3
    assert all(0 <= row["disagreeing_fraction"] <= 1 for row in curves[0])
    assert curves[1][0].keys().isdisjoint({"dropped_group_fraction", "disagreeing_fraction"})
    assert any(
        not torch.equal(mine, other)
        for mine, other in zip(*(model.parameters() for model in models), strict=True)
    )


def test_iterations_without_them_are_frozen_as_before(params: TrainParams) -> None:
    names = {"problem_weights", "dropped_groups", "position_half_life_tokens"}
    assert params.model_dump().keys().isdisjoint({*names, "expert_disagreement"})
    assert (
        "dropped_groups" in params.model_copy(update={"dropped_groups": "no_signal"}).model_dump()
    )
