"""Distillation at selected decisions: the others are as if the expert were silent there (30 s)."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError
from test_micro_batches import OBJECTIVES_UNDER_TEST
from training_rows import END, as_rows, make_table, with_turns

from distil_core.config.models import DecisionParams, TrainParams
from distil_core.errors import TrainingError
from distil_core.objectives import OBJECTIVES
from distil_core.policy.batching import vocabulary_size
from distil_core.progress import no_progress
from distil_core.seeds import generator
from distil_core.training import trainer
from distil_core.training.decisions import Decisions, best_bt, make_decisions
from distil_core.training.feedback_rows import FeedbackRows
from distil_core.training.state import TrainingSetup
from distil_core.training.step_batch import StepBatch, make_step_batch
from distil_core.training.student_logprobs import student_logprobs

SELECTIONS: dict[str, dict[str, Any]] = {
    "disagreement": {"share": 0.4},
    "entropy": {"share": 0.4},
    "marked": {},
    "random": {"share": 0.4},
}
SEED = 5


@pytest.fixture(scope="module")
def table(new_model: Any) -> list[Any]:
    return with_turns(make_table(new_model))


@pytest.fixture(scope="module")
def rows(table: list[Any]) -> FeedbackRows:
    return as_rows(table)


def selection(name: str, model: Any) -> Decisions:
    params = DecisionParams(select=name, **SELECTIONS[name])
    return Decisions(params, SEED, vocabulary_size(model))


def batch_of(
    model: Any, rows: FeedbackRows, groups: list[list[int]], micro_batch: int | None = None
) -> StepBatch:
    return make_step_batch(rows, groups, {6}, vocabulary_size(model), micro_batch, "padded")


def gradient(
    model: Any, batch: StepBatch, objective: Any, decisions: Decisions | None
) -> tuple[list[torch.Tensor], dict[str, float]]:
    model.zero_grad(set_to_none=True)
    figures = trainer._backward(model, batch, objective, "float32", 11, decisions=decisions)
    return [parameter.grad.clone() for parameter in model.parameters()], figures


def kept_by_hand(model: Any, rows: FeedbackRows, index: int, name: str) -> list[int]:
    """The places of one row that keep their expert, from the row alone, in floats."""
    row = rows.row(index)
    if not row.has_expert or index == 6:
        return []
    ids = torch.tensor([[*row.context_ids.tolist(), *row.read_ids.tolist()]])
    with torch.no_grad():
        all_sv = torch.log_softmax(model(input_ids=ids).logits[0].double(), -1)
    before = [
        len(row.context_ids) + place - 1
        for place in range(len(row.read_ids))
        if row.turns is None or row.turns.is_policys[place]
    ]
    scores, start = [], 0
    drawn = generator(SEED, "decisions", row.rollout_id).random(len(before))
    for t, place in enumerate(before):
        count = int(row.expert_counts_t[t])
        stored = row.expert_ids[start : start + count].tolist()
        tail = math.exp(float(row.expert_tail_logprobs_t[t]))
        expert = [*np.exp(row.expert_logprobs[start : start + count].astype(float)), tail]
        expert = [mass / sum(expert) for mass in expert]
        start += count
        probabilities = all_sv[place].exp()
        student = [float(probabilities[v]) for v in stored]
        student.append(float(probabilities.sum()) - sum(student))
        if name == "disagreement":
            pairs = zip(expert, student, strict=True)
            scores.append(sum(e * math.log(e / s) for e, s in pairs if e > 0))
        elif name == "entropy":
            scores.append(-sum(s * math.log(s) for s in student if s > 1e-12))
        else:
            scores.append(float(drawn[t]))
    if name == "marked":
        marked = [] if row.turns is None else row.turns.marked.tolist()
        numbers = [0] * len(before) if row.turns is None else row.turns.numbers_t.tolist()
        return [t for t, number in enumerate(numbers) if number in marked]
    ranked = sorted(range(len(scores)), key=lambda t: -scores[t])
    return sorted(ranked[: math.ceil(0.4 * len(scores))])


@pytest.mark.usefixtures("exact_norms")
@pytest.mark.parametrize("name", SELECTIONS)
def test_what_is_kept_is_what_each_row_alone_says(
    new_model: Any, rows: FeedbackRows, name: str
) -> None:
    model = new_model(3).double()
    batch = batch_of(model, rows, rows.groups[:6])
    part = batch.parts[0]
    student = student_logprobs(model, part.tokens, part.expert_ids_btk, policys=part.policys)
    labels, figures = selection(name, model).applied(batch, student)
    had_bt = (batch.labels.expert_bucket_logprobs_btk > -torch.inf).any(-1)
    kept_bt = (labels.expert_bucket_logprobs_btk > -torch.inf).any(-1)
    num_kept = num_said = 0
    for b, index in enumerate(index for group in rows.groups[:6] for index in group):
        expected = kept_by_hand(model, rows, index, name)
        assert kept_bt[b].nonzero().flatten().tolist() == expected, index
        num_kept += len(expected)
        num_said += 0 if index == 6 else int(had_bt[b].sum())
    assert 0 < num_kept < num_said
    assert figures == {"decision_fraction": pytest.approx(num_kept / num_said)}
    # What is kept is as it was.
    assert torch.equal(
        labels.expert_bucket_logprobs_btk[kept_bt].float(),
        batch.labels.expert_bucket_logprobs_btk[kept_bt],
    )
    assert replace(labels, expert_bucket_logprobs_btk=None) == replace(
        batch.labels, expert_bucket_logprobs_btk=None
    )


def silenced(table: list[Any], kept: dict[int, list[int]]) -> FeedbackRows:
    """The same rollouts, of which the expert said nothing at other places."""
    changed = []
    for index, row in enumerate(table):
        if not row.has_expert or index not in kept:
            changed.append(row)
            continue
        ends = np.cumsum(row.expert_counts)
        own = {t: slice(int(ends[t] - row.expert_counts[t]), int(ends[t])) for t in kept[index]}
        changed.append(
            replace(
                row,
                expert_counts=[
                    int(count) if t in own else 0 for t, count in enumerate(row.expert_counts)
                ],
                expert_ids=[int(i) for part in own.values() for i in row.expert_ids[part]],
                expert_logprobs=[
                    float(value) for part in own.values() for value in row.expert_logprobs[part]
                ],
                expert_tail_logprobs=[
                    float(value) if t in own else -math.inf
                    for t, value in enumerate(row.expert_tail_logprobs)
                ],
            )
        )
    return as_rows(changed)


@pytest.mark.usefixtures("exact_norms")
@pytest.mark.parametrize("objective_name", OBJECTIVES_UNDER_TEST)
@pytest.mark.parametrize("name", SELECTIONS)
def test_the_gradient_is_that_of_an_expert_silent_elsewhere(
    new_model: Any, table: list[Any], rows: FeedbackRows, name: str, objective_name: str
) -> None:
    """Of a table in which it is; whole batches and parts alike."""
    model = new_model(3).double()
    objective = OBJECTIVES.build(*OBJECTIVES_UNDER_TEST[objective_name])
    indices = [index for group in rows.groups[:6] for index in group if index != 6]
    kept = {index: kept_by_hand(model, rows, index, name) for index in indices}
    other = batch_of(model, silenced(table, kept), rows.groups[:6])
    expected, figures = gradient(model, other, objective, None)
    largest = max(float(one.abs().max()) for one in expected)
    assert largest > 1e-8
    for micro_batch in (None, 5):
        batch = batch_of(model, rows, rows.groups[:6], micro_batch)
        found, same = gradient(model, batch, objective, selection(name, model))
        assert 0 < same.pop("decision_fraction") < 1
        assert same == pytest.approx(figures, rel=1e-6, abs=1e-9)
        for mine, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-8 * largest)


@pytest.mark.parametrize("name", SELECTIONS)
def test_the_reward_is_untouched(new_model: Any, rows: FeedbackRows, name: str) -> None:
    model = new_model(3)
    objective = OBJECTIVES.build("grpo", {})
    batch = batch_of(model, rows, rows.groups[:6])
    plain, _ = gradient(model, batch, objective, None)
    found, _ = gradient(model, batch, objective, selection(name, model))
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(found, plain, strict=True))


def test_what_is_drawn_is_a_rollouts_own(new_model: Any, rows: FeedbackRows) -> None:
    """Whichever rows are beside it, and another with another seed."""
    model = new_model(3)

    def kept(groups: list[list[int]], seed: int) -> dict[str, list[int]]:
        batch = batch_of(model, rows, groups)
        part = batch.parts[0]
        student = student_logprobs(model, part.tokens, part.expert_ids_btk, policys=part.policys)
        decisions = replace(selection("random", model), seed=seed)
        labels, _ = decisions.applied(batch, student)
        kept_bt = (labels.expert_bucket_logprobs_btk > -torch.inf).any(-1)
        return {
            name: kept_t.nonzero().flatten().tolist()
            for name, kept_t in zip(batch.rollout_ids, kept_bt, strict=True)
        }

    together, other = kept(rows.groups, SEED), kept(rows.groups, SEED + 1)
    assert together != other
    for group in rows.groups:
        for name, places in kept([group], SEED).items():
            assert places == together[name]


@hypothesis_settings(deadline=None, max_examples=100, derandomize=True)
@given(st.data())
def test_the_best_share(data: st.DataObject) -> None:
    share = data.draw(st.sampled_from([0.01, 0.1, 0.2, 0.5, 0.99, 1.0]))
    rows, length = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 12))
    cells = st.lists(st.integers(-3, 3), min_size=length, max_size=length)
    scores = [data.draw(cells) for _ in range(rows)]
    mask = [data.draw(st.lists(st.booleans(), min_size=length, max_size=length)) for _ in scores]
    found = best_bt(torch.tensor(scores).double(), torch.tensor(mask), share).tolist()
    for found_t, scores_t, mask_t in zip(found, scores, mask, strict=True):
        places = [t for t in range(length) if mask_t[t]]
        ranked = sorted(places, key=lambda t: (-scores_t[t], t))
        # In hundredths, so that no rounding decides.
        count = -(-round(share * 100) * len(places) // 100)
        assert [t for t in range(length) if found_t[t]] == sorted(ranked[:count])


def test_settings_of_decisions() -> None:
    for wrong in ({"select": "marked", "share": 0.5}, {"select": "random"}):
        with pytest.raises(ValidationError, match="share is given exactly when"):
            DecisionParams(**wrong)
    for share in (0.0, 1.5, -0.1):
        with pytest.raises(ValidationError):
            DecisionParams(select="random", share=share)


def test_nothing_is_marked(
    settings: dict[str, Any], new_model: Any, table: list[Any], rows: FeedbackRows
) -> None:
    decisions = {"select": "marked"}
    params = TrainParams(**{**settings["train"], "decisions": decisions})
    unmarked = as_rows([replace(row, marked_turns=()) for row in table])
    with pytest.raises(TrainingError, match="no turn of the 24 rollouts is marked"):
        make_decisions(unmarked, params, 1, 100)
    assert make_decisions(rows, params, 1, 100) is not None
    assert make_decisions(rows, TrainParams(**settings["train"]), 1, 100) is None


@pytest.mark.parametrize("name", SELECTIONS)
def test_training_at_selected_decisions(
    settings: dict[str, Any], new_model: Any, rows: FeedbackRows, name: str
) -> None:
    """Through the trainer, which writes the share into its curve."""
    decisions = {"select": name, **SELECTIONS[name]}
    changes = {"num_steps": 3, "batch_rollouts": 8, "decisions": decisions}
    params = TrainParams(**{**settings["train"], **changes})
    assert TrainParams(**params.model_dump(mode="json")) == params
    curves = []
    for seed in (1, 1, 2):
        model = new_model(0)
        objective = OBJECTIVES.build("forward_cross_entropy", {})
        setup = TrainingSetup(params, seed, "float32", [END])
        curves.append(trainer.train(model, rows, objective, setup, no_progress))
    assert curves[0] == curves[1]
    assert curves[0] != curves[2]
    assert all(0 < row["decision_fraction"] < 1 for row in curves[0])
