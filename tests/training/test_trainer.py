"""The training loop on a real tiny model: it learns, repeats itself bit by bit, and stops (6 s)."""

import copy
import dataclasses
import math
from collections import Counter
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from training_rows import END, as_rows, make_table

from distil_core.config.models import TrainParams
from distil_core.errors import TrainingError
from distil_core.objectives import OBJECTIVES
from distil_core.progress import no_progress
from distil_core.tables.schemas import FeedbackTableRow
from distil_core.training.chosen_rows import group_batches
from distil_core.training.feedback_rows import FeedbackRows
from distil_core.training.optimizer import make_optimizer, set_learning_rate
from distil_core.training.state import TrainingSetup
from distil_core.training.trainer import train


@pytest.fixture(scope="module")
def table(new_model: Any) -> list[FeedbackTableRow]:
    return make_table(new_model)


@pytest.fixture(scope="module")
def rows(table: list[FeedbackTableRow]) -> FeedbackRows:
    return as_rows(table)


def params(settings: dict[str, Any], **changes: Any) -> TrainParams:
    values = {"num_steps": 12, "batch_rollouts": 8, "learning_rate": 0.01, **changes}
    return TrainParams(**{**settings["train"], **values})


def setup(settings: dict[str, Any], seed: int = 1, **changes: Any) -> TrainingSetup:
    return TrainingSetup(params(settings, **changes), seed)


def objective(name: str = "forward_cross_entropy", **options: Any) -> Any:
    return OBJECTIVES.build(name, options)


def test_it_lowers_the_cross_entropy_and_repeats_itself_bit_by_bit(
    settings: dict[str, Any], new_model: Any, rows: FeedbackRows
) -> None:
    models, curves, reported = [], [], []
    for noise in (1, 2):
        torch.manual_seed(noise)
        model = new_model(0)
        curve = train(
            model,
            rows,
            # Without the credit of this table's few rollouts, which is mostly noise.
            objective(weight=0.0),
            TrainingSetup(params(settings, num_steps=40), 7),
            progress=lambda *step: reported.append(step),
        )
        models.append(model)
        curves.append(curve)
    assert curves[0] == curves[1]
    for mine, same in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(mine, same)
    kl = [step["cross_entropy"] - step["expert_entropy"] for step in curves[0]]
    assert np.mean(kl[-5:]) < 0.5 * np.mean(kl[:5]), kl
    assert [step["step"] for step in curves[0]] == list(range(40))
    assert all(math.isfinite(value) for step in curves[0] for value in step.values())
    assert reported[:40] == [(step, 40) for step in range(1, 41)]
    assert not models[0].training


def test_another_seed_is_another_order(
    settings: dict[str, Any], new_model: Any, rows: FeedbackRows
) -> None:
    losses = [
        [
            step["loss"]
            for step in train(new_model(0), rows, objective(), setup(settings, seed), no_progress)
        ]
        for seed in (1, 2)
    ]
    assert losses[0] != losses[1]


def test_at_the_first_step_the_student_is_its_own_sampler(
    settings: dict[str, Any], new_model: Any, rows: FeedbackRows
) -> None:
    """Importance weights are 1: sampling, scoring and training agree about the same tokens."""
    (first,) = train(
        new_model(0),
        rows,
        objective(),
        setup(settings, num_steps=1),
        no_progress,
    )
    assert first["importance_weight"] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", ["reverse_kl", "jensen_shannon", "sampled_reverse_kl", "grpo"])
def test_every_objective_trains(
    settings: dict[str, Any], new_model: Any, rows: FeedbackRows, name: str
) -> None:
    model = new_model(0)
    before = copy.deepcopy(model.state_dict())
    train(model, rows, objective(name), setup(settings, num_steps=3), no_progress)
    changed = [not torch.equal(before[key], value) for key, value in model.state_dict().items()]
    assert all(changed)


def test_a_bfloat16_forward_pass_still_takes_in_small_updates(
    settings: dict[str, Any], new_model: Any, rows: FeedbackRows
) -> None:
    """A weight of bfloat16 would round an update of 1e-5 away."""
    model = new_model(0)
    before = copy.deepcopy(model.state_dict())
    small = params(settings, learning_rate=1e-6, num_steps=2, weight_decay=0)
    (first, _) = train(model, rows, objective(), TrainingSetup(small, 1, "bfloat16"), no_progress)
    assert first["importance_weight"] == pytest.approx(1, abs=0.1)
    for key, value in model.state_dict().items():
        assert value.dtype == torch.float32
        moved = (value != before[key]).float().mean()
        assert moved > 0.5, key


def test_what_the_objective_reads_is_that_of_the_rows(
    settings: dict[str, Any], new_model: Any, rows: FeedbackRows
) -> None:
    """Groups are the problems, rewards, expert and authorship those of each rollout."""
    mixed = copy.deepcopy(rows)
    mixed._by_expert = [index % 5 == 0 for index in range(len(rows))]
    seen: list[Any] = []

    def recording(batch: Any) -> Any:
        seen.append(batch)
        return objective("behaviour_cloning")(batch)

    train(new_model(0), mixed, recording, setup(settings, num_steps=1), no_progress)
    (batch,) = seen
    chosen = next(group_batches(mixed.groups, 8, 1, 1))
    indices = [index for group in chosen for index in group]
    read = [mixed.row(index) for index in indices]
    problems = [row.rollout_id.split("/")[1] for row in read]
    assert len(set(problems)) == 4
    for b, problem in enumerate(problems):
        same = batch.group_ids_b == batch.group_ids_b[b]
        assert same.tolist() == [other == problem for other in problems]
    assert batch.by_expert_b.tolist() == [row.by_expert for row in read]
    assert any(row.by_expert for row in read)
    assert batch.rewards_b.tolist() == [row.reward for row in read]
    assert batch.expert_mask_b.tolist() == [row.has_expert for row in read]


def ends_of(rows: FeedbackRows) -> list[bool]:
    return [bool(rows.row(index).response_ids_t[-1] == END) for index in range(len(rows))]


def test_truncated_responses_may_be_masked(
    settings: dict[str, Any], new_model: Any, rows: FeedbackRows
) -> None:
    """They train no token, whichever objective, and no other row changes; their rewards stay."""
    ended = ends_of(rows)
    assert 0 < sum(ended) < len(ended)
    seen: list[Any] = []

    def recording(batch: Any) -> Any:
        seen.append(batch)
        return objective("grpo")(batch)

    one_step = {"num_steps": 1, "batch_rollouts": 24}
    for mode in ("train", "mask"):
        chosen = params(settings, truncated_responses=mode, **one_step)
        (row,) = train(
            new_model(0),
            rows,
            recording,
            TrainingSetup(chosen, 1, end_token_ids=[END]),
            no_progress,
        )
    assert row["masked_rollouts"] == ended.count(False)
    trained, masked = seen
    kept = masked.response_mask_bt.any(dim=1)
    assert int(kept.sum()) == sum(ended)
    assert torch.equal(masked.response_mask_bt[kept], trained.response_mask_bt[kept])
    assert torch.equal(masked.rewards_b, trained.rewards_b)
    # What the expert wrote is never truncated.
    texts = dataclasses.replace(rows.row(ended.index(False)), by_expert=True)
    assert not texts.is_truncated([END])


def test_masking_truncated_responses_says_what_it_lacks(
    settings: dict[str, Any], new_model: Any, rows: FeedbackRows
) -> None:
    masking = params(settings, truncated_responses="mask")
    with pytest.raises(TrainingError, match="needs the policy's end tokens"):
        train(new_model(0), rows, objective(), TrainingSetup(masking, 1), no_progress)
    with pytest.raises(TrainingError, match=r"all 24 responses are truncated.*max_new_tokens"):
        train(
            new_model(0),
            rows,
            objective(),
            TrainingSetup(masking, 1, end_token_ids=[-1]),
            no_progress,
        )


def test_a_non_finite_loss_names_the_rollout_and_changes_nothing(
    settings: dict[str, Any], new_model: Any, table: list[FeedbackTableRow]
) -> None:
    bad = replace(table[5], behaviour_logprobs=[math.nan, *table[5].behaviour_logprobs[1:]])
    damaged = as_rows([*table[:5], bad, *table[6:]])
    model = new_model(0)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(TrainingError, match=r"non-finite loss .*rows 001/2/1 of the batch"):
        train(
            model,
            damaged,
            objective(),
            setup(settings, batch_rollouts=24),
            no_progress,
        )
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_a_non_finite_gradient_changes_nothing(
    settings: dict[str, Any], new_model: Any, rows: FeedbackRows
) -> None:
    model = new_model(0)
    model.get_input_embeddings().weight.register_hook(lambda gradient: gradient * math.nan)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(TrainingError, match=r"non-finite gradient norm \(nan\) at step 0"):
        train(model, rows, objective(), setup(settings), no_progress)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_a_table_smaller_than_a_batch(
    settings: dict[str, Any], new_model: Any, rows: FeedbackRows
) -> None:
    with pytest.raises(TrainingError, match=r"batch_rollouts is 64.* only 24 rollouts: lower it"):
        train(
            new_model(0),
            rows,
            objective(),
            setup(settings, batch_rollouts=64),
            no_progress,
        )


group_sizes = st.lists(st.integers(1, 5), min_size=1, max_size=20)


def make_groups(sizes: list[int]) -> list[list[int]]:
    numbers = iter(range(sum(sizes)))
    return [list(islice(numbers, size)) for size in sizes]


@given(group_sizes, st.integers(1, 30), st.integers(0, 2**63 - 1))
@hypothesis_settings(deadline=None)
def test_batches_are_whole_groups_and_epochs_permutations(
    sizes: list[int], batch_rollouts: int, seed: int
) -> None:
    groups = make_groups(sizes)
    per_batch = max(1, round(batch_rollouts * len(groups) / sum(sizes)))
    if batch_rollouts > 2 * sum(sizes):
        with pytest.raises(TrainingError, match="lower it, or sample more"):
            next(group_batches(groups, batch_rollouts, 1, seed))
        return
    per_batch = min(per_batch, len(groups))
    per_epoch = len(groups) // per_batch
    batches = list(group_batches(groups, batch_rollouts, 3 * per_epoch, seed))
    assert batches == list(group_batches(groups, batch_rollouts, 3 * per_epoch, seed))
    assert len(batches) == 3 * per_epoch
    for epoch in range(3):
        met = [
            group
            for batch in batches[epoch * per_epoch : (epoch + 1) * per_epoch]
            for group in batch
        ]
        assert all(group in groups for group in met), "groups are never split"
        assert max(Counter(map(tuple, met)).values()) == 1
        assert len(met) == per_epoch * per_batch > len(groups) - per_batch


@pytest.mark.parametrize("batch_rollouts", [1536, 768, 512, 128])
@pytest.mark.parametrize("num_lost", [1, 3, 40])
def test_an_epoch_has_as_many_batches_where_groups_lack_verdicts(
    batch_rollouts: int, num_lost: int
) -> None:
    groups = make_groups([4] * 384)
    per_epoch = 1536 // batch_rollouts
    left, missing = groups[:-num_lost], 4 * num_lost
    batches = list(group_batches(left, batch_rollouts, 2 * per_epoch, 0, missing))
    for epoch in (batches[:per_epoch], batches[per_epoch:]):
        assert sorted(group for batch in epoch for group in batch) == left
        sizes = {len(batch) for batch in epoch}
        assert max(sizes) - min(sizes) <= 1
    assert len(list(group_batches(left, batch_rollouts, 3, 0))) == 3, "also where it is not said"


def test_single_rollouts_without_verdict_change_no_batch_count() -> None:
    groups = make_groups([4] * 380 + [3] * 4)
    batches = list(group_batches(groups, 1536, 3, 0, 4))
    assert [len(batch) for batch in batches] == [384] * 3


def test_a_table_that_lost_most_of_a_batch_is_refused() -> None:
    groups = make_groups([4] * 100)
    with pytest.raises(TrainingError, match=r"only 400 rollouts \(1136 more have no verdict\)"):
        next(group_batches(groups, 1536, 1, 0, 1136))


def test_epochs_have_different_orders_and_a_longer_run_begins_the_same() -> None:
    groups = make_groups([2] * 40)
    batches = list(group_batches(groups, 10, 24, 3))
    assert batches[:8] != batches[8:16] != batches[16:]
    assert batches[:5] == list(group_batches(groups, 10, 5, 3))
    assert all(sum(map(len, batch)) == 10 for batch in batches)


def test_the_learning_rate_warms_up_and_falls() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=9.0)

    def rates(num_steps: int, final: float, warmup: int) -> list[float]:
        found = []
        for step in range(num_steps):
            rate = set_learning_rate(optimizer, step, num_steps, 1.0, final, warmup)
            assert optimizer.param_groups[0]["lr"] == rate
            found.append(rate)
        return found

    assert rates(5, 0.2, 0) == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])
    assert rates(7, 0.0, 2) == pytest.approx([0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0])
    assert rates(3, 1.0, 0) == [1.0, 1.0, 1.0]
    assert rates(1, 0.2, 0) == [1.0]
    assert rates(2, 0.2, 4) == pytest.approx([0.25, 0.5])


def test_weight_decay_is_for_matrices_only(new_model: Any) -> None:
    model = new_model(0)
    decayed, kept = make_optimizer(model, 0.1, 0.3).param_groups
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.3, 0.0)
    assert all(parameter.dim() >= 2 for parameter in decayed["params"])
    assert all(parameter.dim() < 2 for parameter in kept["params"])
    assert len(decayed["params"]) + len(kept["params"]) == len(list(model.parameters()))
