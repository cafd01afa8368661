"""The training loop: feedback rows in, a better policy and its curve out."""

import math
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor
from transformers import PreTrainedModel

from distil_core.errors import TrainingError
from distil_core.objectives.base import Objective
from distil_core.policy.batching import vocabulary_size
from distil_core.policy.prefix_tree import unsupported_reason
from distil_core.progress import ProgressCallback, report_figures
from distil_core.seeds import derive_seed
from distil_core.training.activation_checkpointing import set_activation_checkpointing
from distil_core.training.chosen_rows import group_batches, masked_rows
from distil_core.training.decisions import Decisions, make_decisions
from distil_core.training.dropout import seed_dropout
from distil_core.training.feedback_rows import FeedbackRows
from distil_core.training.finite_loss import require_finite_loss
from distil_core.training.layout_check import require_rows_apart
from distil_core.training.lora import Adapters
from distil_core.training.objective_batch import make_objective_batch
from distil_core.training.optimizer import make_optimizer, set_learning_rate
from distil_core.training.plain_head import require_plain_head
from distil_core.training.prefetching import Prefetcher
from distil_core.training.resume import ResumePoint
from distil_core.training.state import TrainingSetup, TrainingState
from distil_core.training.step_batch import StepBatch, collated, make_step_batch
from distil_core.training.student_logprobs import is_tiled, student_logprobs
from distil_core.training.token_weights import (
    disagreements,
    kept_groups,
    problem_weights,
    scale_gradients,
)
from distil_core.training.weight_average import WeightAverage


def train(
    model: PreTrainedModel,
    rows: FeedbackRows,
    objective: Objective,
    setup: TrainingSetup,
    progress: ProgressCallback,
    average: WeightAverage | None = None,
    resume: ResumePoint | None = None,
) -> list[dict[str, float]]:
    """Train `model` in place for `train.num_steps` steps; returns one curve row for each.

    average: updated with the weights after each step. resume: where an interrupted run's state is
    loaded from, and this one's is saved.

    Raises `ConfigError` for an optimizer whose library is not installed, and `TrainingError` before
    the first step for adapters, a layout, a tiled head or activation checkpointing that the model
    cannot have, and before the weights change when a loss or gradient is not finite.
    """
    params, seed = setup.params, setup.seed
    masked = masked_rows(rows, params, setup.end_token_ids)
    groups = kept_groups(rows, params)
    adapters = Adapters(model, params.lora, derive_seed(seed, "lora")) if params.lora else None
    optimizer = make_optimizer(
        model, params.learning_rate, params.weight_decay, params.optimizer_state_bits
    )
    decisions = make_decisions(rows, params, seed, vocabulary_size(model))
    state = TrainingState(model, optimizer, average)
    if resume is not None:
        resume.load(state)
    set_activation_checkpointing(model, params.activation_checkpointing, "train")
    _require_possible(model, rows, groups, setup)
    model.train()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    with Prefetcher(_step_batches(model, rows, groups, masked, setup, state.num_done)) as batches:
        for step in range(state.num_done, params.num_steps):
            learning_rate = set_learning_rate(
                optimizer,
                step,
                params.num_steps,
                params.learning_rate,
                params.final_learning_rate_fraction,
                params.warmup_steps,
            )
            optimizer.zero_grad(set_to_none=True)
            diagnostics = _backward(
                model,
                batches.next_batch(),
                objective,
                setup.forward_dtype,
                derive_seed(seed, "dropout", step),
                params.tiled_head_above_vocabulary,
                batches.prefetch,
                setup.temperature,
                params.expert_disagreement,
                decisions,
            )
            if params.dropped_groups != "none":
                num_dropped = len(rows.groups) - len(groups)
                diagnostics["dropped_group_fraction"] = num_dropped / len(rows.groups)
            gradient_norm = _clipped_norm(weights, params.max_grad_norm, step)
            state.finish_step(
                {
                    "step": step,
                    "learning_rate": learning_rate,
                    "gradient_norm": gradient_norm,
                    **diagnostics,
                }
            )
            if resume is not None:
                resume.save(state)
            report_figures(progress, step + 1, state.curve[-1])
            progress(step + 1, params.num_steps)
    set_activation_checkpointing(model, False, "train")
    if adapters is not None:
        adapters.merge()
    model.eval()
    return state.curve


def _step_batches(
    model: PreTrainedModel,
    rows: FeedbackRows,
    groups: list[list[int]],
    masked: Set[int],
    setup: TrainingSetup,
    num_done: int,
) -> Iterator[StepBatch]:
    """The batches of the steps from `num_done` on."""
    params = setup.params
    batches = group_batches(
        groups, params.batch_rollouts, params.num_steps, setup.seed, rows.num_without_verdict
    )
    vocabulary = vocabulary_size(model)
    weights = problem_weights(rows, groups, params)
    for chosen in islice(batches, num_done, None):
        yield make_step_batch(
            *(rows, chosen, masked, vocabulary, params.micro_batch_rollouts, params.layout),
            weights,
            params.position_half_life_tokens,
        )


def _backward(
    model: PreTrainedModel,
    step_batch: StepBatch,
    objective: Objective,
    forward_dtype: str,
    dropout_seed: int,
    tiled_above: int | None = None,
    when_busy: Callable[[], None] = lambda: None,
    temperature: float | None = None,
    disagreement: str = "unmeasured",
    decisions: Decisions | None = None,
) -> dict[str, float]:
    """Compute one batch's gradients; returns the loss and the objective's diagnostics.

    With micro-batches the gradient is still that of the whole batch, whatever the objective
    compares or divides by. First all log-probabilities are computed without gradient, then the
    objective is differentiated with respect to them, and then each part is computed again to
    backpropagate its share.

    when_busy: called when this thread begins a long wait. temperature: as in `student_logprobs`.
    disagreement: as `train.expert_disagreement`. decisions: where the expert is listened to; None
    for everywhere.
    """
    size = len(step_batch.parts[0].expert_ids_btk)
    parts = step_batch.parts

    def forward(number: int) -> tuple[Tensor, ...]:
        # The same in both passes, so that dropout drops the same values.
        seed_dropout(derive_seed(dropout_seed, number) if number else dropout_seed)
        part = parts[number].to(model.device)
        return student_logprobs(
            model,
            part.tokens,
            part.expert_ids_btk,
            forward_dtype,
            tiled_above,
            part.sequences,
            temperature,
            part.policys,
        )

    if len(parts) == 1:
        student = forward(0)
    else:
        with torch.no_grad():
            pieces = [forward(number) for number in range(len(parts))]
        student = tuple(torch.cat(values) for values in zip(*pieces, strict=True))
        for values in student:
            values.requires_grad_()
    selected: dict[str, float] = {}
    if decisions is not None:
        labels, selected = decisions.applied(step_batch, student)
        step_batch = replace(step_batch, labels=labels)
    weights_bt, found = _weights(model, step_batch, student[0], disagreement)
    if weights_bt is not None:
        scale_gradients(student, weights_bt)
    output = objective(make_objective_batch(step_batch.labels, student))
    require_finite_loss(output, step_batch.rollout_ids)
    when_busy()
    output.loss.backward()
    if len(parts) > 1:
        # An objective need not read both.
        gradients = [torch.zeros_like(v) if v.grad is None else v.grad for v in student]
        for number in range(len(parts)):
            part = slice(number * size, (number + 1) * size)
            torch.autograd.backward(forward(number), [gradient[part] for gradient in gradients])
    diagnostics = {"loss": output.loss.item(), **output.diagnostics, **found, **selected}
    if step_batch.num_masked:
        diagnostics["masked_rollouts"] = float(step_batch.num_masked)
    return diagnostics


def _weights(
    model: PreTrainedModel, step_batch: StepBatch, student_btk: Tensor, disagreement: str
) -> tuple[Tensor | None, dict[str, float]]:
    """How much each token counts, None where all count alike; figures for the curve."""
    if disagreement == "unmeasured":
        return step_batch.weights_bt, {}
    expert_ids_btk = torch.cat([part.expert_ids_btk for part in step_batch.parts])
    differs_bt, share = disagreements(
        step_batch.labels, expert_ids_btk, student_btk, vocabulary_size(model)
    )
    weights_bt = step_batch.weights_bt
    if disagreement == "only":
        ones_bt = torch.ones_like(differs_bt, dtype=torch.float32)
        weights_bt = (ones_bt if weights_bt is None else weights_bt.to(ones_bt.device)) * differs_bt
    return weights_bt, {"disagreeing_fraction": share}


def _clipped_norm(weights: Sequence[Tensor], max_norm: float, step: int) -> float:
    """The gradient's norm before clipping to `max_norm`. Raises `TrainingError` where it is not
    finite."""
    norm = torch.nn.utils.clip_grad_norm_(weights, max_norm).item()
    if not math.isfinite(norm):
        raise TrainingError(
            f"non-finite gradient norm ({norm}) at step {step}. The weights of the parent policy "
            "are unchanged. Lower train.learning_rate or train.max_grad_norm."
        )
    return norm


def _require_possible(
    model: PreTrainedModel, rows: FeedbackRows, groups: list[list[int]], setup: TrainingSetup
) -> None:
    """Check that the model supports the head and layout of the settings, by trying them on rows of
    the first step, with no more rows at once than training."""
    params = setup.params
    if is_tiled(model, params.tiled_head_above_vocabulary):
        require_plain_head(model, collated([rows.row(0)]).to(model.device))
    if params.layout == "padded":
        return
    if params.layout == "prefix_tree" and (reason := unsupported_reason(model, rows.longest)):
        raise TrainingError(
            f"train.layout prefix_tree is not for {type(model).__name__}: {reason}; set "
            "train.layout: packed or padded"
        )
    model.eval()
    for part in next(_step_batches(model, rows, groups, set(), setup, 0)).parts:
        require_rows_apart(
            model,
            part.to(model.device),
            params.layout,
            setup.forward_dtype,
            params.tiled_head_above_vocabulary,
        )
