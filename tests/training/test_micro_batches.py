"""A batch in parts, or with activations computed again, has the whole batch's gradient (8 s)."""

from typing import Any

import pytest
import torch
from training_rows import END, make_rows

from distil_core.config.models import TrainParams
from distil_core.errors import ConfigError, TrainingError
from distil_core.objectives import OBJECTIVES
from distil_core.policy.batching import vocabulary_size
from distil_core.progress import no_progress
from distil_core.training import trainer
from distil_core.training.feedback_rows import FeedbackRows
from distil_core.training.state import TrainingSetup
from distil_core.training.step_batch import StepBatch, make_step_batch

OBJECTIVES_UNDER_TEST: dict[str, tuple[str, dict[str, Any]]] = {
    "forward_cross_entropy": (
        "forward_cross_entropy",
        {"advantage_normalisation": "standard_deviation", "loss_normalisation": "tokens"},
    ),
    "group_mean": ("forward_cross_entropy", {"baseline": "group_mean", "horizon": 2}),
    "over_turns": (
        "forward_cross_entropy_over_turns",
        {"discount": 0.5, "discount_per": "turn", "baseline_alignment": "turn"},
    ),
    "reverse_kl": ("reverse_kl", {}),
    "jensen_shannon": ("jensen_shannon", {}),
    "sampled_reverse_kl": ("sampled_reverse_kl", {}),
    "behaviour_cloning": ("behaviour_cloning", {}),
    "grpo": ("grpo", {"loss_normalisation": "tokens"}),
    "blend": ("blend", {"reward_weight": 0.3}),
}


@pytest.fixture(scope="module")
def rows(new_model: Any) -> FeedbackRows:
    rows = make_rows(new_model)
    rows._by_expert = [index == 4 for index in range(len(rows))]
    return rows


def gradients(
    model: Any, rows: FeedbackRows, objective: Any, micro_batch: int | None
) -> tuple[list[torch.Tensor], dict[str, float]]:
    model.zero_grad(set_to_none=True)
    batch = step_batch(model, rows, micro_batch)
    diagnostics = trainer._backward(model, batch, objective, "float32", 11)
    return [parameter.grad.clone() for parameter in model.parameters()], diagnostics


def step_batch(model: Any, rows: FeedbackRows, micro_batch: int | None) -> StepBatch:
    size = vocabulary_size(model)
    return make_step_batch(rows, rows.groups[:6], {3, 7}, size, micro_batch, "padded")


def test_every_objective_is_tested() -> None:
    assert {name for name, _ in OBJECTIVES_UNDER_TEST.values()} == set(OBJECTIVES.names())


@pytest.mark.parametrize("name", OBJECTIVES_UNDER_TEST)
def test_micro_batches_have_the_whole_batchs_gradient(
    new_model: Any, rows: FeedbackRows, name: str
) -> None:
    """Although baselines, normalisers and the advantages' scale span groups that are split."""
    # Beside the sampler, so that importance weights differ from 1.
    model = new_model(3).double()
    objective = OBJECTIVES.build(*OBJECTIVES_UNDER_TEST[name])
    whole, diagnostics = gradients(model, rows, objective, None)
    largest = max(float(gradient.abs().max()) for gradient in whole)
    assert largest > 1e-6
    for micro_batch in (1, 5, 12, 100):
        parts, same = gradients(model, rows, objective, micro_batch)
        assert same == pytest.approx(diagnostics, rel=1e-9, abs=1e-12)
        for mine, theirs in zip(parts, whole, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12 * largest)


def test_both_passes_leave_out_the_same_in_dropout(new_model: Any, rows: FeedbackRows) -> None:
    """The log-probabilities that carry the gradient are those that it was taken at."""
    model = new_model(3)
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    model.train()
    seen: list[torch.Tensor] = []
    original = trainer.student_logprobs

    def recording(*arguments: Any) -> Any:
        values = original(*arguments)
        seen.append(values[1].detach())
        return values

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "student_logprobs", recording)
        gradients(model, rows, OBJECTIVES.build("forward_cross_entropy", {}), 4)
    assert len(seen) == 6
    assert all(torch.equal(mine, same) for mine, same in zip(seen[:3], seen[3:], strict=True))
    part = step_batch(model, rows, 4).parts[0]
    assert not torch.equal(seen[0], original(model.eval(), part.tokens, part.expert_ids_btk)[1])


def trained(
    settings: dict[str, Any], model: Any, rows: FeedbackRows, dtype: Any = "float32", **changes: Any
) -> list[torch.Tensor]:
    params = TrainParams(**{**settings["train"], "num_steps": 4, "batch_rollouts": 8, **changes})
    objective = OBJECTIVES.build("forward_cross_entropy", {})
    setup = TrainingSetup(params, 1, dtype, [END])
    trainer.train(model, rows, objective, setup, no_progress)
    return list(model.state_dict().values())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_activation_checkpointing_changes_no_bit(
    settings: dict[str, Any], new_model: Any, rows: FeedbackRows, dtype: str
) -> None:
    """With dropout, whose random numbers are drawn again in the backward pass."""
    calls = []
    found = []
    for checkpointing in (False, True):
        model = new_model(0)
        for layer in model.model.layers:
            layer.self_attn.attention_dropout = 0.3
        count = [0]
        model.model.layers[0].mlp.register_forward_pre_hook(
            lambda *_, count=count: count.__setitem__(0, count[0] + 1)
        )
        changes = {"activation_checkpointing": checkpointing, "layout": "padded"}
        found.append(trained(settings, model, rows, dtype, **changes))
        calls.append(count[0])
        assert not model.is_gradient_checkpointing
    assert calls == [4, 8], "the layers are computed again"
    assert all(torch.equal(mine, same) for mine, same in zip(*found, strict=True))


def test_a_model_that_cannot_checkpoint_is_refused(
    settings: dict[str, Any], new_model: Any, rows: FeedbackRows
) -> None:
    model = new_model(0)
    model.supports_gradient_checkpointing = False
    with pytest.raises(TrainingError, match="does not support it"):
        trained(settings, model, rows, activation_checkpointing=True)


def test_micro_batches_train_alike(
    settings: dict[str, Any], new_model: Any, rows: FeedbackRows
) -> None:
    whole = trained(settings, new_model(0), rows)
    parts = trained(
        settings, new_model(0), rows, micro_batch_rollouts=3, activation_checkpointing=True
    )
    for mine, theirs in zip(parts, whole, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("wrong", [0, -1, 1.5])
def test_an_impossible_micro_batch_is_refused(settings: dict[str, Any], wrong: Any) -> None:
    from distil_core.campaign.load import parse_params

    settings["train"]["micro_batch_rollouts"] = wrong
    with pytest.raises(ConfigError, match="micro_batch_rollouts"):
        parse_params(settings, "params.yaml")
