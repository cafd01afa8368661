"""The training loop: feedback rows in, a better policy and its curve out."""

import math
from collections.abc import Callable, Collection, Iterator, Sequence, Set
from itertools import islice
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from distil_core.config.models import TrainParams
from distil_core.errors import TrainingError
from distil_core.objectives.base import Objective
from distil_core.policy.batching import vocabulary_size
from distil_core.policy.prefix_tree import unsupported_reason
from distil_core.progress import ProgressCallback
from distil_core.seeds import derive_seed, generator
from distil_core.training.feedback_rows import FeedbackRows
from distil_core.training.finite_loss import require_finite_loss
from distil_core.training.layout_check import require_rows_apart
from distil_core.training.lora import Adapters
from distil_core.training.objective_batch import make_objective_batch
from distil_core.training.optimizer import make_optimizer, set_learning_rate
from distil_core.training.plain_head import require_plain_head
from distil_core.training.prefetching import Prefetcher
from distil_core.training.resume import ResumePoint
from distil_core.training.step_batch import StepBatch, collated, make_step_batch
from distil_core.training.student_logprobs import is_tiled, student_logprobs
from distil_core.training.weight_average import WeightAverage


def train(
    model: PreTrainedModel,
    rows: FeedbackRows,
    objective: Objective,
    params: TrainParams,
    seed: int,
    progress: ProgressCallback,
    forward_dtype: Literal["float32", "bfloat16"] = "float32",
    average: WeightAverage | None = None,
    end_token_ids: Collection[int] = (),
    resume: ResumePoint | None = None,
) -> list[dict[str, float]]:
    """Train `model` in place for `params.num_steps`; one curve row a step.

    forward_dtype: in which the model computes; its weights should be float32 in either case.
    average: takes in the weights after each step.
    end_token_ids: a response without one of them at its end is truncated; needed to mask those.
    resume: where an interrupted run is taken up from, and this one keeps its state.

    Every number that is drawn depends on (seed, step) alone. Raises `TrainingError` before the
    weights change when a loss or gradient is not finite, and before the first step for adapters,
    a layout, a tiled head or activation checkpointing that the model cannot have.
    """
    masked = masked_rows(rows, params, end_token_ids)
    adapters = Adapters(model, params.lora, derive_seed(seed, "lora")) if params.lora else None
    optimizer = make_optimizer(model, params.learning_rate, params.weight_decay)
    average_model = average.model if average is not None else None
    num_done, curve = 0, list[dict[str, float]]()
    if resume is not None:
        num_done, curve = resume.load(model, optimizer, average_model)
    _set_activation_checkpointing(model, params.activation_checkpointing)
    if is_tiled(model, params.tiled_head_above_vocabulary):
        require_plain_head(model, collated([rows.row(0)]).to(model.device))
    if params.layout != "padded":
        _require_rows_apart(model.eval(), rows, params, seed, forward_dtype)
    model.train()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    with Prefetcher(_step_batches(model, rows, masked, params, seed, num_done)) as batches:
        for step in range(num_done, params.num_steps):
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
                forward_dtype,
                derive_seed(seed, "dropout", step),
                params.tiled_head_above_vocabulary,
                batches.prefetch,
            )
            gradient_norm = _clipped_norm(weights, params.max_grad_norm, step)
            optimizer.step()
            if average is not None:
                average.update(model)
            curve.append(
                {
                    "step": step,
                    "learning_rate": learning_rate,
                    "gradient_norm": gradient_norm,
                    **diagnostics,
                }
            )
            if resume is not None:
                resume.save(step + 1, curve, model, optimizer, average_model)
            progress(step + 1, params.num_steps)
    _set_activation_checkpointing(model, False)
    if adapters is not None:
        adapters.merge()
    model.eval()
    return curve


def masked_rows(
    rows: FeedbackRows, params: TrainParams, end_token_ids: Collection[int]
) -> set[int]:
    """Indices of the rows that `truncated_responses` says not to train. `TrainingError` where
    nothing would be left."""
    if params.truncated_responses == "train":
        return set()
    if not end_token_ids:
        raise TrainingError(
            "train.truncated_responses mask needs the policy's end tokens, found none"
        )
    masked = {index for index in range(len(rows)) if rows.row(index).is_truncated(end_token_ids)}
    if len(masked) == len(rows):
        raise TrainingError(
            f"all {len(rows)} responses are truncated, and train.truncated_responses is mask, so "
            "none is left to train on: raise sample.max_new_tokens, or train on truncated ones"
        )
    return masked


def group_batches(
    groups: list[list[int]],
    batch_rollouts: int,
    num_steps: int,
    seed: int,
    num_without_verdict: int = 0,
) -> Iterator[list[list[int]]]:
    """`num_steps` batches of whole groups of rollouts, each of about `batch_rollouts` rows.

    Each epoch is a permutation of all groups; a rest too small for a batch waits for no one and
    is left to the next epoch's permutation.

    num_without_verdict: rollouts that were sampled, but are not in the table. An epoch has as many
    batches as with them, and where there are too few groups for that, the batches are smaller.
    Raises `TrainingError` where the table has less than half a batch.
    """
    num_rows = sum(map(len, groups))
    if 2 * num_rows < batch_rollouts:
        lost = f" ({num_without_verdict} more have no verdict)" if num_without_verdict else ""
        raise TrainingError(
            f"train.batch_rollouts is {batch_rollouts}, but the feedback table has only "
            f"{num_rows} rollouts{lost}: lower it, or sample more"
        )
    groups_per_batch = max(1, round(batch_rollouts * len(groups) / num_rows))
    num_sampled_groups = round(len(groups) * (num_rows + num_without_verdict) / num_rows)
    batches_per_epoch = min(max(1, num_sampled_groups // groups_per_batch), len(groups))
    for step in range(num_steps):
        epoch, batch = divmod(step, batches_per_epoch)
        order = generator(seed, "order", epoch).permutation(len(groups))
        whole = order[: batches_per_epoch * groups_per_batch]
        chosen = np.array_split(whole, batches_per_epoch)[batch]
        yield [groups[index] for index in chosen]


def _step_batches(
    model: PreTrainedModel,
    rows: FeedbackRows,
    masked: Set[int],
    params: TrainParams,
    seed: int,
    num_done: int,
) -> Iterator[StepBatch]:
    """Of the steps from `num_done` on."""
    batches = group_batches(
        rows.groups, params.batch_rollouts, params.num_steps, seed, rows.num_without_verdict
    )
    vocabulary = vocabulary_size(model)
    for groups in islice(batches, num_done, None):
        yield make_step_batch(
            rows, groups, masked, vocabulary, params.micro_batch_rollouts, params.layout
        )


def _backward(
    model: PreTrainedModel,
    step_batch: StepBatch,
    objective: Objective,
    forward_dtype: str,
    dropout_seed: int,
    tiled_above: int | None = None,
    when_busy: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Gradients of one batch into the model; returns the loss and the objective's diagnostics.

    In micro-batches the gradient is still the whole batch's, whatever the objective compares or
    divides by: all log-probabilities are computed first, without gradient, the objective is
    differentiated with respect to them, and each part is computed again to carry its share on.

    when_busy: called where this thread begins to wait for long.
    """
    size = len(step_batch.parts[0].expert_ids_btk)
    parts = step_batch.parts

    def forward(number: int) -> tuple[Tensor, Tensor]:
        # Alike in both passes, so that dropout leaves out the same.
        _seed_dropout(derive_seed(dropout_seed, number) if number else dropout_seed)
        part = parts[number].to(model.device)
        return student_logprobs(
            model, part.tokens, part.expert_ids_btk, forward_dtype, tiled_above, part.sequences
        )

    if len(parts) == 1:
        student = forward(0)
    else:
        with torch.no_grad():
            pieces = [forward(number) for number in range(len(parts))]
        bucket_pieces, sampled_pieces = zip(*pieces, strict=True)
        student = torch.cat(bucket_pieces), torch.cat(sampled_pieces)
        for values in student:
            values.requires_grad_()
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
    diagnostics = {"loss": output.loss.item(), **output.diagnostics}
    if step_batch.num_masked:
        diagnostics["masked_rollouts"] = float(step_batch.num_masked)
    return diagnostics


def _seed_dropout(seed: int) -> None:
    # `torch.manual_seed` takes a millisecond on a machine without a GPU: it notes for one that may
    # be found later who asked, with a stack trace.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def _clipped_norm(weights: Sequence[Tensor], max_norm: float, step: int) -> float:
    """The gradient's norm before it is cut to `max_norm`. `TrainingError` where not finite."""
    norm = torch.nn.utils.clip_grad_norm_(weights, max_norm).item()
    if not math.isfinite(norm):
        raise TrainingError(
            f"non-finite gradient norm ({norm}) at step {step}. The weights of the parent policy "
            "are unchanged. Lower train.learning_rate or train.max_grad_norm."
        )
    return norm


def _require_rows_apart(
    model: PreTrainedModel,
    rows: FeedbackRows,
    params: TrainParams,
    seed: int,
    forward_dtype: str,
) -> None:
    """On the rows of the first step, no more of them at once than training holds."""
    if params.layout == "prefix_tree" and (reason := unsupported_reason(model, rows.longest)):
        raise TrainingError(
            f"train.layout prefix_tree is not for {type(model).__name__}: {reason}; set "
            "train.layout: packed or padded"
        )
    for part in next(_step_batches(model, rows, set(), params, seed, 0)).parts:
        require_rows_apart(
            model,
            part.to(model.device),
            params.layout,
            forward_dtype,
            params.tiled_head_above_vocabulary,
        )


def _set_activation_checkpointing(model: PreTrainedModel, on: bool) -> None:
    if not on:
        if model.is_gradient_checkpointing:
            model.gradient_checkpointing_disable()
        return
    if not model.supports_gradient_checkpointing:
        raise TrainingError(
            f"train.activation_checkpointing: {type(model).__name__} does not support it; leave "
            "it out, or lower train.micro_batch_rollouts"
        )
    model.gradient_checkpointing_enable({"use_reentrant": False})
