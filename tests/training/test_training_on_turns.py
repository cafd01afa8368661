"""Rollouts of several turns: all tokens are read, the policy's alone are trained on (40 s)."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_layouts import gradients
from test_micro_batches import OBJECTIVES_UNDER_TEST
from torch import Tensor
from training_rows import END, as_rows, make_table, with_turns

from distil_core.config.models import Layout, TrainParams
from distil_core.errors import DataError
from distil_core.evaluation.hindsight import token_costs
from distil_core.objectives import OBJECTIVES
from distil_core.objectives.estimators.turn_rewards import BatchOfTurnRewards
from distil_core.objectives.estimators.turns import BatchOfTurns
from distil_core.policy.batching import vocabulary_size
from distil_core.progress import no_progress
from distil_core.training import trainer
from distil_core.training.feedback_rows import FeedbackRow, FeedbackRows
from distil_core.training.objective_batch import make_objective_batch
from distil_core.training.state import TrainingSetup
from distil_core.training.step_batch import make_step_batch
from distil_core.training.student_logprobs import student_logprobs

UNDER_TEST = OBJECTIVES_UNDER_TEST | {
    "grpo_by_turn": ("grpo", {"credit": "turn", "turn_discount": 0.5}),
}
LAYOUTS: tuple[Layout, ...] = ("padded", "packed", "prefix_tree")


@pytest.fixture(scope="module")
def table(new_model: Any) -> list[Any]:
    """Contexts that are alike within a group, so that trees share them."""
    made = make_table(new_model)
    for index in range(1, len(made), 2):
        made[index] = replace(made[index], context_ids=made[index - 1].context_ids)
    return made


@pytest.fixture(scope="module")
def rows(table: list[Any]) -> FeedbackRows:
    rows = as_rows(with_turns(table))
    rows._by_expert = [index == 4 for index in range(len(rows))]
    assert sum(rows.row(index).turns is not None for index in range(len(rows))) > 12
    return rows


def alone(model: Any, row: FeedbackRow) -> Tensor:
    """log pi(v | s_t) at each of the policy's tokens, of the row without padding or others."""
    ids = torch.tensor([[*row.context_ids.tolist(), *row.read_ids.tolist()]])
    logprobs_sv = torch.log_softmax(model(input_ids=ids).logits[0], -1)
    lengths = [len(row.read_ids)] if row.turns is None else row.turns.lengths.tolist()
    position, places = len(row.context_ids), []
    for number, length in enumerate(lengths):
        places += [] if number % 2 else range(position, position + length)
        position += length
    assert ids[0, places].tolist() == row.response_ids_t.tolist()
    return logprobs_sv[[place - 1 for place in places]]


def turn_of(row: FeedbackRow, t: int) -> int:
    ends = [] if row.turns is None else row.turns.lengths[::2].cumsum().tolist()
    return sum(end <= t for end in ends)


def row_by_row(model: Any, rows: FeedbackRows, groups: list[list[int]], masked: set[int]) -> Any:
    """The batch of these rows, from each row alone."""
    indices = [index for group in groups for index in group]
    chosen = [rows.row(index) for index in indices]
    length = max(len(row.response_ids_t) for row in chosen)
    width = max([1, *(int(row.expert_counts_t.max()) for row in chosen if row.has_expert)])
    shape = (len(chosen), length)
    student = [[[torch.zeros(())] * (width + 1)] * length for _ in chosen]
    expert = torch.full((*shape, width + 1), -torch.inf, dtype=torch.float64)
    sampled = [[torch.zeros(())] * length for _ in chosen]
    behaviour = torch.zeros(shape, dtype=torch.float64)
    mask = torch.zeros(shape, dtype=torch.bool)
    buckets = torch.zeros(shape, dtype=torch.int64)
    turns = torch.zeros(shape, dtype=torch.int64)
    rewards = torch.zeros(shape, dtype=torch.float64)
    num_turns = torch.ones(len(chosen), dtype=torch.int64)
    for b, row in enumerate(chosen):
        logprobs_tv = alone(model, row)
        start = 0
        given = [] if row.turns is None else row.turns.rewards.tolist()
        num_turns[b] = turn_of(row, len(row.response_ids_t) - 1) + 1
        for turn, reward in enumerate(given):
            rewards[b, turn] = 0.0 if math.isnan(reward) else reward
        for t, token in enumerate(row.response_ids_t.tolist()):
            count = int(row.expert_counts_t[t]) if row.has_expert else 0
            stored = row.expert_ids[start : start + count].tolist()
            others = [v for v in range(logprobs_tv.shape[1]) if v not in stored]
            tail = logprobs_tv[t, others].logsumexp(-1)
            padding = [torch.zeros(())] * (width - count)
            student[b][t] = [*(logprobs_tv[t, v] for v in stored), *padding, tail]
            sampled[b][t] = logprobs_tv[t, token]
            if row.has_expert:
                found = torch.from_numpy(row.expert_logprobs[start : start + count].copy())
                expert[b, t, :count] = found.double()
                expert[b, t, -1] = float(row.expert_tail_logprobs_t[t])
            behaviour[b, t] = float(row.behaviour_logprobs_t[t])
            mask[b, t] = indices[b] not in masked
            turns[b, t] = turn_of(row, t)
            buckets[b, t] = stored.index(token) if token in stored else width
            start += count
    return BatchOfTurnRewards(
        turn_ids_bt=turns,
        turn_rewards_bn=rewards,
        num_turns_b=num_turns,
        student_bucket_logprobs_btk=torch.stack(
            [torch.stack([torch.stack(one) for one in row]) for row in student]
        ).double(),
        expert_bucket_logprobs_btk=expert,
        sampled_logprobs_bt=torch.stack([torch.stack(row) for row in sampled]).double(),
        behaviour_logprobs_bt=behaviour,
        response_mask_bt=mask,
        expert_mask_b=torch.tensor([row.has_expert for row in chosen]),
        rewards_b=torch.tensor([row.reward for row in chosen], dtype=torch.float64),
        group_ids_b=torch.tensor([n for n, group in enumerate(groups) for _ in group]),
        sampled_buckets_bt=buckets,
        by_expert_b=torch.tensor([row.by_expert for row in chosen]),
    )


@pytest.mark.usefixtures("exact_norms")
@pytest.mark.parametrize("name", UNDER_TEST)
def test_every_layout_has_the_gradient_of_rows_computed_alone(
    new_model: Any, rows: FeedbackRows, name: str
) -> None:
    # Beside the sampler, so that importance weights differ from 1.
    model = new_model(3).double()
    objective = OBJECTIVES.build(*UNDER_TEST[name])
    output = objective(row_by_row(model, rows, rows.groups[:8], {3, 7}))
    weights = list(model.parameters())
    expected = [one.clone() for one in torch.autograd.grad(output.loss, weights)]
    largest = max(float(gradient.abs().max()) for gradient in expected)
    assert largest > 1e-6
    for layout in LAYOUTS:
        # The last with the head in tiles.
        for micro_batch, tiled_above in ((None, None), (5, None), (None, 10), (5, 10)):
            found, figures = gradients(model, rows, objective, micro_batch, layout, tiled_above)
            assert figures["loss"] == pytest.approx(output.loss.item(), rel=1e-9)
            for mine, theirs in zip(found, expected, strict=True):
                torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-11 * largest)


def test_credit_runs_over_the_policys_tokens_alone(new_model: Any, rows: FeedbackRows) -> None:
    """The loss as a double loop over all tokens, in which the environment's have no cost and are no
    distance."""
    model = new_model(3).double()
    options = {"discount": 0.7, "horizon": 3, "baseline": "none", "is_clip": 1e9}
    objective = OBJECTIVES.build("forward_cross_entropy", options)
    _, figures = gradients(model, rows, objective, None, "padded")
    total, used = 0.0, 0
    for index in (index for group in rows.groups[:8] for index in group):
        row = rows.row(index)
        if index in (3, 7) or not row.has_expert:
            continue
        used += 1
        costs, sampled, start = [], [], 0
        logprobs_tv = alone(model, row).detach()
        for t, token in enumerate(row.response_ids_t.tolist()):
            count = int(row.expert_counts_t[t])
            stored = row.expert_ids[start : start + count].tolist()
            masses = [math.exp(value) for value in row.expert_logprobs[start : start + count]]
            tail = math.exp(float(row.expert_tail_logprobs_t[t]))
            whole = sum(masses) + tail
            others = [v for v in range(logprobs_tv.shape[1]) if v not in stored]
            cost = -sum(
                mass / whole * float(logprobs_tv[t, v])
                for v, mass in zip(stored, masses, strict=True)
            )
            if tail:
                cost -= tail / whole * float(logprobs_tv[t, others].logsumexp(-1))
            costs.append(cost)
            sampled.append(float(logprobs_tv[t, token]))
            start += count
        is_policys = [True] * len(costs) if row.turns is None else row.turns.is_policys.tolist()
        places = [place for place, is_its in enumerate(is_policys) if is_its]
        for t, place in enumerate(places):
            credit, steps = 0.0, 0
            for later in range(place + 1, len(is_policys)):
                if not is_policys[later]:
                    continue
                steps += 1
                if steps <= 3:
                    credit += 0.7 ** (steps - 1) * costs[places.index(later)]
            weight = math.exp(sampled[t] - float(row.behaviour_logprobs_t[t]))
            credit = 0.0 if row.by_expert else credit
            weight = 1.0 if row.by_expert else weight
            total += weight * (costs[t] + credit * sampled[t])
    assert figures["loss"] == pytest.approx(total / used, rel=1e-9)


def test_turns_reach_objectives(new_model: Any, table: list[Any], rows: FeedbackRows) -> None:
    model = new_model(3)
    made = make_step_batch(rows, rows.groups[:8], set(), vocabulary_size(model), None, "padded")
    mask_bt = made.labels.response_mask_bt
    width = max(len(rows.row(index).response_ids_t) for index in range(16))
    assert mask_bt.shape == (16, width), "no place for what the environment wrote"
    assert made.parts[0].tokens.response_ids_bt.shape[1] > width, "which is read"
    student = (torch.zeros(16, width, 3), torch.zeros(16, width))
    batch = make_objective_batch(made.labels, student)
    assert isinstance(batch, BatchOfTurnRewards)
    assert batch.as_sampled_logprobs_bt is None
    assert made.marked_bt is not None
    assert batch.turn_rewards_bn is not None
    assert batch.num_turns_b is not None
    assert batch.turn_rewards_bn.any()
    for b, index in enumerate(index for group in rows.groups[:8] for index in group):
        row = rows.row(index)
        length = len(row.response_ids_t)
        turns = [0] * length if row.turns is None else row.turns.numbers_t.tolist()
        marked = [] if row.turns is None else row.turns.marked.tolist()
        assert batch.turn_ids_bt is not None
        assert batch.turn_ids_bt[b, :length].tolist() == turns
        assert made.marked_bt[b, :length].tolist() == [turn in marked for turn in turns]
        assert not made.marked_bt[b, length:].any()
        assert batch.num_turns_b[b] == turns[-1] + 1
        given = [] if row.turns is None else row.turns.rewards.tolist()
        rewards = [0.0 if math.isnan(reward) else reward for reward in given]
        padding = [0.0] * (batch.turn_rewards_bn.shape[1] - len(rewards))
        assert batch.turn_rewards_bn[b].tolist() == rewards + padding
    # Where no row of the table has a reward, batches are as they were before there were any.
    without = as_rows([replace(row, turn_rewards=()) for row in with_turns(table)])
    size = vocabulary_size(model)
    plain = make_step_batch(without, without.groups[:8], set(), size, None, "padded")
    assert type(make_objective_batch(plain.labels, student)) is BatchOfTurns
    # Where one has, every batch has them, so that it does not depend on the draw.
    single = as_rows([*table[:-1], replace(table[-1], turn_rewards=[0.5])])
    others = make_step_batch(single, single.groups[:2], set(), size, None, "padded")
    assert others.labels.turn_rewards_bn is not None
    assert others.labels.turn_rewards_bn.tolist() == [[0.0]] * 4
    tempered = make_objective_batch(made.labels, (*student, torch.ones(16, width)))
    assert isinstance(tempered, BatchOfTurns)
    assert tempered.as_sampled_logprobs_bt is not None


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_single_turn_has_the_bits_of_a_single_response(
    new_model: Any, table: list[Any], layout: Layout
) -> None:
    """And a batch in which nothing has turns is as it was before there were any."""
    one_turn = [replace(row, turn_lengths=[len(row.response_ids)]) for row in table]
    size = vocabulary_size(new_model(0))
    made = []
    for rows in (as_rows(table), as_rows(one_turn)):
        batch = make_step_batch(rows, rows.groups[:6], {3}, size, 5, layout)
        model = new_model(3)
        objective = OBJECTIVES.build("forward_cross_entropy", {})
        figures = trainer._backward(model, batch, objective, "float32", 11)
        made.append((batch, figures, [one.grad for one in model.parameters()]))
    (plain, figures, expected), (single, same, found) = made
    assert same == figures
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(found, expected, strict=True))
    assert plain.labels.turn_ids_bt is None
    assert plain.marked_bt is None
    assert all(part.policys is None and part.trained is part.tokens for part in plain.parts)
    for name, value in vars(plain.labels).items():
        if value is not None:
            assert torch.equal(value, getattr(single.labels, name)), name


@pytest.mark.usefixtures("exact_norms")
def test_at_the_samplers_temperature_in_every_layout(new_model: Any, rows: FeedbackRows) -> None:
    model = new_model(3).double()
    size = vocabulary_size(model)
    found = []
    for layout in LAYOUTS:
        for tiled_above in (None, 10):
            made = make_step_batch(rows, rows.groups[:8], set(), size, None, layout)
            (part,) = made.parts
            with torch.no_grad():
                values = student_logprobs(
                    *(model, part.tokens, part.expert_ids_btk, "float32", tiled_above),
                    sequences=part.sequences,
                    temperature=0.6,
                    policys=part.policys,
                )
            found.append([one[made.labels.response_mask_bt] for one in values])
    expected = []
    for index in (index for group in rows.groups[:8] for index in group):
        row = rows.row(index)
        # Of softmax(logits / T): the same of log-probabilities, which differ by a constant.
        tempered_tv = torch.log_softmax(alone(model, row).detach() / 0.6, -1)
        expected.append(tempered_tv[range(len(tempered_tv)), row.response_ids_t.tolist()])
    for values in found:
        torch.testing.assert_close(values[2], torch.cat(expected), rtol=1e-9, atol=1e-12)


def test_positions_are_counted_in_the_policys_tokens(new_model: Any, rows: FeedbackRows) -> None:
    """Of the weights that fall along a response."""
    made = make_step_batch(
        *(rows, rows.groups[:4], set(), vocabulary_size(new_model(0)), None, "padded"),
        half_life_tokens=2.0,
    )
    width = made.labels.response_mask_bt.shape[1]
    assert made.weights_bt is not None
    for weights_t in made.weights_bt:
        assert weights_t.tolist() == pytest.approx([2 ** (-t / 2) for t in range(width)])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("truncated", ["train", "mask"])
def test_training_learns_from_rollouts_with_turns(
    settings: dict[str, Any], new_model: Any, rows: FeedbackRows, layout: Layout, truncated: str
) -> None:
    """With micro-batches, tiles and the check of the layout, to the same weights in every layout
    but for rounding."""
    found = []
    for one in ("padded", layout):
        changes = {
            "num_steps": 4,
            "batch_rollouts": 8,
            "layout": one,
            "micro_batch_rollouts": 3,
            "tiled_head_above_vocabulary": 10 if one == layout else None,
            "truncated_responses": truncated,
        }
        params = TrainParams(**{**settings["train"], **changes})
        model = new_model(0).double()
        options = {"reward_weight": 0.5, "grpo_options": {"credit": "turn"}}
        objective = OBJECTIVES.build("blend", options)
        curve = trainer.train(
            model, rows, objective, TrainingSetup(params, 1, "float32", [END]), no_progress
        )
        found.append([row["loss"] for row in curve])
        assert all(math.isfinite(value) for value in found[-1])
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_losses_of_checkpoints_are_of_the_policys_tokens(
    new_model: Any, rows: FeedbackRows
) -> None:
    model = new_model(3).double()
    chosen = [rows.row(index) for index in range(8)]
    together = token_costs(model, chosen)
    for row, found in zip(chosen, together, strict=True):
        (own,) = token_costs(model, [row])
        assert len(found.disagreement_t) == len(row.response_ids_t)
        torch.testing.assert_close(
            torch.from_numpy(found.disagreement_t), torch.from_numpy(own.disagreement_t)
        )
        total = found.disagreement_t.sum()
        assert found.future_credit_t[0] == pytest.approx(total - found.disagreement_t[0], abs=1e-9)


def test_training_by_turn_without_rewards_of_turns_is_refused(
    settings: dict[str, Any], new_model: Any, table: list[Any]
) -> None:
    """Before the weights change."""
    rows = as_rows([replace(row, turn_rewards=()) for row in with_turns(table)])
    changes = {"num_steps": 2, "batch_rollouts": 8, "layout": "padded"}
    params = TrainParams(**{**settings["train"], **changes})
    model = new_model(0)
    before = [one.detach().clone() for one in model.parameters()]
    objective = OBJECTIVES.build("grpo", {"credit": "turn"})
    with pytest.raises(DataError, match="no turn of the rollouts that are trained on has one"):
        trainer.train(
            model, rows, objective, TrainingSetup(params, 1, "float32", [END]), no_progress
        )
    assert all(
        torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True)
    )
