"""Rewards compare the student with its sampler: on fresh rollouts the ratio is 1 at any temperature
(10 s)."""

from typing import Any

import numpy as np
import pytest
import torch
from test_tiled_training import gemma, llama

from distil_core.campaign.load import parse_iteration_params, parse_params
from distil_core.campaign.sampler import scores_as_sampled, training_temperature
from distil_core.config.models import Component, TrainParams
from distil_core.engines.base import SampleRequest, SamplingSettings
from distil_core.engines.transformers import TransformersEngine
from distil_core.errors import ConfigError
from distil_core.objectives import OBJECTIVES
from distil_core.progress import no_progress
from distil_core.tables.schemas import FEEDBACK, FeedbackTableRow
from distil_core.training.feedback_rows import FeedbackRows
from distil_core.training.objective_batch import make_objective_batch
from distil_core.training.state import TrainingSetup
from distil_core.training.step_batch import make_step_batch
from distil_core.training.student_logprobs import student_logprobs
from distil_core.training.trainer import train

END, VOCABULARY = 1, 300


def fresh(model: Any, temperature: float) -> FeedbackRows:
    """Rollouts of the model itself: 4 problems, 4 each, without an expert."""
    random = np.random.default_rng(0)
    contexts = [random.integers(3, 90, 4 + n).tolist() for n in range(4) for _ in range(4)]
    requests = [SampleRequest(context, seed) for seed, context in enumerate(contexts)]
    settings = SamplingSettings(max_new_tokens=6, temperature=temperature, top_p=1.0)
    responses = TransformersEngine(model.eval(), [END], 8).sample(requests, settings, no_progress)
    table = [
        FeedbackTableRow(
            rollout_id=f"001/{index // 4}/{index % 4}",
            problem_id=str(index // 4),
            reward=float(index % 3 == 0),
            context_ids=contexts[index],
            expert_context_ids=[],
            response_ids=response.token_ids,
            behaviour_logprobs=response.behaviour_logprobs,
            has_expert=False,
            expert_counts=[],
            expert_ids=[],
            expert_logprobs=[],
            expert_tail_logprobs=[],
        )
        for index, response in enumerate(responses)
    ]
    return FeedbackRows(FEEDBACK.to_table(table), {})


def curve(
    model: Any, rows: FeedbackRows, settings: Any, temperature: float | None, **changes: Any
) -> list[dict[str, float]]:
    values = {"num_steps": 2, "batch_rollouts": 16, "learning_rate": 0.01, "layout": "padded"}
    params = TrainParams(**{**settings["train"], **values, **changes})
    setup = TrainingSetup(params, 3, temperature=temperature)
    return train(model, rows, OBJECTIVES.build("grpo", {}), setup, no_progress)


@pytest.mark.parametrize("make", [llama, gemma])
@pytest.mark.parametrize(
    "changes",
    [{}, {"layout": "prefix_tree"}, {"layout": "packed", "micro_batch_rollouts": 5}],
    ids=["padded", "tree", "packed"],
)
@pytest.mark.parametrize("tiled", [False, True])
def test_the_ratio_of_fresh_rollouts_is_one(
    make: Any, changes: dict[str, Any], tiled: bool, settings: Any
) -> None:
    model = make().double()
    rows = fresh(model, 0.6)
    changes = {**changes, "tiled_head_above_vocabulary": 100 if tiled else None}
    first, second = curve(model, rows, settings, 0.6, **changes)
    assert first["importance_weight"] == pytest.approx(1.0, abs=1e-6)
    assert first["clipped_fraction"] == 0
    assert first["gradient_norm"] > 0
    assert second["importance_weight"] != 1.0


def test_each_token_in_float32_is_one_to_rounding() -> None:
    model = llama()
    rows = fresh(model, 0.6)
    batch = make_step_batch(rows, rows.groups, set(), VOCABULARY, None, "padded")
    part = batch.parts[0]
    with torch.no_grad():
        found = student_logprobs(model, part.tokens, part.expert_ids_btk, temperature=0.6)
    labels = batch.labels
    mask_bt = labels.response_mask_bt
    ratios = (found[2] - labels.behaviour_logprobs_bt).exp()[mask_bt]
    torch.testing.assert_close(ratios, torch.ones_like(ratios), rtol=0, atol=5e-6)
    without = (found[1] - labels.behaviour_logprobs_bt).exp()[mask_bt]
    assert (without - 1).abs().max() > 0.1
    assert type(make_objective_batch(labels, found[:2])).__name__ == "ObjectiveBatch"


def test_without_the_temperature_it_was_not_one(settings: Any) -> None:
    model = llama()
    first, _ = curve(model, fresh(model, 0.6), settings, None)
    assert first["clipped_fraction"] > 0.3


def test_at_temperature_one_nothing_is_other_than_before(settings: Any) -> None:
    """The third tensor at 1 is the second, and distillation reads the second at any temperature."""
    rows = fresh(llama(), 1.0)
    batch = make_step_batch(rows, rows.groups, set(), VOCABULARY, None, "padded")
    part = batch.parts[0]
    with torch.no_grad():
        plain = student_logprobs(llama(), part.tokens, part.expert_ids_btk)
        at_one, cold = (
            student_logprobs(llama(), part.tokens, part.expert_ids_btk, temperature=t)
            for t in (1.0, 0.6)
        )
    assert torch.equal(plain[0], cold[0])
    assert torch.equal(plain[1], cold[1])
    assert torch.equal(at_one[2], plain[1])


def test_which_objectives_read_the_student_as_sampled() -> None:
    blend = {"distillation": "reverse_kl", "reward_weight": 0.5}
    assert scores_as_sampled(Component(name="grpo"))
    assert scores_as_sampled(Component(name="blend", options=blend))
    for name in ("forward_cross_entropy", "reverse_kl", "sampled_reverse_kl", "behaviour_cloning"):
        assert not scores_as_sampled(Component(name=name))


def changed(settings: Any, objective: str, **sample: Any) -> dict[str, Any]:
    train = {**settings["train"], "objective": {"name": objective}}
    return {**settings, "train": train, "sample": {**settings["sample"], **sample}}


def test_the_temperature_that_training_takes(settings: Any) -> None:
    def frozen(iteration: int, objective: str = "grpo", **sample: Any) -> Any:
        values = changed(settings, objective, **sample)
        return parse_iteration_params(
            {**values, "iteration": iteration, "stage_versions": {}}, "iteration"
        )

    cold = frozen(2, temperature=0.6)
    assert training_temperature(cold, [], frozen) == 0.6
    assert training_temperature(frozen(2), [], frozen) is None
    assert training_temperature(frozen(2, "reverse_kl", temperature=0.6), [], frozen) is None
    assert training_temperature(cold, [1], lambda _: frozen(1, temperature=0.6)) == 0.6
    with pytest.raises(ConfigError, match=r"sampled at 0\.6, 1"):
        training_temperature(cold, [1], frozen)
    with pytest.raises(ConfigError, match=r"iteration 2: .*nucleus that is not stored"):
        training_temperature(frozen(2, top_p=0.9), [], frozen)


def test_a_nucleus_is_refused_where_settings_are_chosen(settings: Any) -> None:
    with pytest.raises(ConfigError, match=r"params\.yaml: train\.objective 'grpo' compares"):
        parse_params(changed(settings, "grpo", top_p=0.95), "params.yaml")
    parse_params(changed(settings, "reverse_kl", top_p=0.95), "params.yaml")
