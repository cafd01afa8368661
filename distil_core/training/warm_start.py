"""The warm start of a policy: supervised text before there are any rollouts.

Two kinds of text are mixed, in phases. Demonstrations teach the task, with the demonstrator's
errors. Corrections teach the model to read feedback: the context has an attempt and the tools'
verdict on it, the input follows the attempt's own lines, right or wrong, and the label at each
position is the tool's value there. So the warm-started model, given feedback, is an expert at the
states that a student really visits.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from distil_core.config.models import FromScratchBase, OnePassLayout, WarmStartParams
from distil_core.errors import TrainingError
from distil_core.policy.batching import ResponseBatch, collate, response_logits
from distil_core.policy.prefix_tree import prefix_trees, unsupported_reason
from distil_core.policy.sequences import Sequences, predicted_logits
from distil_core.progress import ProgressCallback, report_figures
from distil_core.seeds import derive_seed, generator
from distil_core.training.dropout import seed_dropout
from distil_core.training.optimizer import make_optimizer, set_learning_rate
from distil_core.training.plain_head import require_plain_head
from distil_core.training.prefetching import Prefetcher
from distil_core.training.resume import ResumePoint
from distil_core.training.state import TrainingState
from distil_core.training.student_logprobs import is_tiled, student_logprobs

NO_LABEL = -100
"""Of a token that is read and not learned from."""
_ONE_PASS_LAYOUTS: tuple[OnePassLayout, ...] = ("padded", "prefix_tree")
_TOLERANCES = {"float32": 1e-3, "bfloat16": 0.1}
"""Above rounding of a mean loss."""


@dataclass(frozen=True)
class WarmStartExample:
    """context_ids: the context. input_ids: the response's tokens. label_ids: the right token at
    each of those positions (same length)."""

    context_ids: list[int]
    input_ids: list[int]
    label_ids: list[int]


@dataclass(frozen=True)
class BatchComputing:
    """How a batch is computed, which changes no more than rounding.

    micro_batch_size: texts at once; None for the whole batch. tiled_above, forward_dtype: as in
    `student_logprobs`.
    """

    micro_batch_size: int | None = None
    tiled_above: int | None = None
    forward_dtype: Literal["float32", "bfloat16"] = "float32"


def warm_start(
    model: PreTrainedModel,
    demonstrations: Sequence[WarmStartExample],
    corrections: Sequence[WarmStartExample],
    params: FromScratchBase | WarmStartParams,
    seed: int,
    progress: ProgressCallback,
    resume: ResumePoint | None = None,
    computing: BatchComputing = BatchComputing(),
) -> None:
    """Train in place on mixed batches, phase after phase. Raises `TrainingError` when a gradient is
    not finite.

    resume: where an interrupted warm start's state is loaded from, and this one's is saved.
    """
    total_steps = sum(phase.num_steps for phase in params.phases)
    state = TrainingState(model, make_optimizer(model, params.learning_rate, params.weight_decay))
    if resume is not None:
        resume.load(state)
    model.train()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    left = _batches(demonstrations, corrections, params, seed, state.num_done, computing)
    with Prefetcher(left) as batches:
        for step in range(state.num_done, total_steps):
            set_learning_rate(
                state.optimizer,
                step,
                total_steps,
                params.learning_rate,
                params.final_learning_rate_fraction,
                params.warmup_steps,
            )
            state.optimizer.zero_grad(set_to_none=True)
            dropout_seed = derive_seed(seed, "base", "dropout", step)
            loss = _backward(model, batches.next_batch(), computing, dropout_seed, batches.prefetch)
            gradient_norm = torch.nn.utils.clip_grad_norm_(weights, params.max_grad_norm)
            if not torch.isfinite(gradient_norm):
                section = "base" if isinstance(params, FromScratchBase) else "base.warm_start"
                raise TrainingError(
                    f"warm start: non-finite gradient norm ({gradient_norm.item()}) at step "
                    f"{step} of {total_steps}, loss {loss:.4g}. Lower {section}.learning_rate "
                    f"or {section}.max_grad_norm."
                )
            state.finish_step()
            if resume is not None:
                resume.save(state)
            report_figures(progress, step + 1, {"loss": loss})
            progress(step + 1, total_steps)
    model.eval()


def require_computable(
    model: PreTrainedModel,
    examples: Sequence[WarmStartExample],
    params: WarmStartParams,
    computing: BatchComputing,
) -> None:
    """Raise `TrainingError` where the model cannot have the layout or the tiled head of the
    settings. Some examples are computed both ways to find out."""
    section = "base.warm_start"
    if is_tiled(model, computing.tiled_above):
        tokens = _batch(examples[:1], "padded").tokens.to(model.device)
        require_plain_head(model, tokens, section)
    if params.layout == "padded":
        return
    longest = max(len(one.context_ids) + len(one.input_ids) for one in examples)
    name = f"{section}.layout prefix_tree is not for {type(model).__name__}"
    if reason := unsupported_reason(model, longest):
        raise TrainingError(f"{name}: {reason}; set {section}.layout: padded")
    few = examples[: computing.micro_batch_size or params.batch_size]
    with torch.no_grad():
        padded, trees = (
            _supervised_loss(model, _batch(few, layout), computing).item()
            for layout in _ONE_PASS_LAYOUTS
        )
    # Written this way so that NaN is refused too.
    if not abs(padded - trees) <= _TOLERANCES[computing.forward_dtype]:
        raise TrainingError(
            f"{name}: it does not keep texts apart there, the loss of {len(few)} is {trees:.6g} "
            f"and without trees {padded:.6g}; set {section}.layout: padded"
        )


@dataclass(frozen=True)
class _Batch:
    """Rows of one forward pass. labels_bt: int64, `NO_LABEL` on padding. trees: the same rows in
    prefix trees, or None."""

    tokens: ResponseBatch
    labels_bt: torch.Tensor
    trees: Sequences | None

    @property
    def num_labels(self) -> int:
        """Positions with a label."""
        return int((self.labels_bt != NO_LABEL).sum())


def _batches(
    demonstrations: Sequence[WarmStartExample],
    corrections: Sequence[WarmStartExample],
    params: FromScratchBase | WarmStartParams,
    seed: int,
    num_done: int,
    computing: BatchComputing,
) -> Iterator[list[_Batch]]:
    """The batches of the steps from `num_done` on, in parts, on the CPU."""
    random = generator(seed, "base", "order")
    step = 0
    for phase in params.phases:
        num_corrections = round(phase.correction_fraction * params.batch_size)
        for _ in range(phase.num_steps):
            chosen = _draw(random, corrections, num_corrections)
            others = _draw(random, demonstrations, params.batch_size - num_corrections)
            step += 1
            # Drawn also for steps that are done, so that the generator continues where it was.
            if step > num_done:
                yield _parts([*chosen, *others], computing.micro_batch_size, params.layout)


def _draw(
    random: np.random.Generator, examples: Sequence[WarmStartExample], count: int
) -> list[WarmStartExample]:
    # There may be none of a kind that no phase asks for.
    return [examples[i] for i in random.integers(0, len(examples), count)] if count else []


def _parts(
    examples: Sequence[WarmStartExample], size: int | None, layout: OnePassLayout
) -> list[_Batch]:
    if size is None:
        return [_batch(examples, layout)]
    # Rows of similar length together, for less padding.
    by_length = sorted(examples, key=lambda one: len(one.context_ids) + len(one.input_ids))
    return [_batch(by_length[i : i + size], layout) for i in range(0, len(by_length), size)]


def _batch(examples: Sequence[WarmStartExample], layout: OnePassLayout) -> _Batch:
    tokens = collate(
        [example.context_ids for example in examples],
        [example.input_ids for example in examples],
        "cpu",
    )
    labels_bt = torch.full_like(tokens.response_ids_bt, NO_LABEL)
    labels_bt[tokens.response_mask_bt] = torch.tensor(
        [label for example in examples for label in example.label_ids]
    )
    return _Batch(tokens, labels_bt, prefix_trees(tokens) if layout == "prefix_tree" else None)


def _backward(
    model: PreTrainedModel,
    parts: Sequence[_Batch],
    computing: BatchComputing,
    dropout_seed: int,
    when_busy: Callable[[], None],
) -> float:
    """Compute the gradient of the mean over all labels, one part after another; returns the mean.

    when_busy: called when this thread begins a long wait.
    """
    num_labels, total = sum(part.num_labels for part in parts), 0.0
    for number, part in enumerate(parts):
        seed_dropout(derive_seed(dropout_seed, number))
        loss = _supervised_loss(model, part, computing) * (part.num_labels / num_labels)
        if not number:
            when_busy()
        loss.backward()
        total += loss.item()
    return total


def _supervised_loss(
    model: PreTrainedModel, batch: _Batch, computing: BatchComputing = BatchComputing()
) -> torch.Tensor:
    if is_tiled(model, computing.tiled_above):
        return _tiled_loss(model, batch, computing)
    labels_n = batch.labels_bt.flatten().to(model.device)
    half = computing.forward_dtype == "bfloat16"
    with torch.autocast(model.device.type, torch.bfloat16, enabled=half):
        if batch.trees is None:
            logits_nv = response_logits(model, batch.tokens.to(model.device)).flatten(0, 1)
        else:
            trees = batch.trees.to(model.device)
            logits_nv, labels_n = predicted_logits(model, trees), labels_n[trees.places_n]
    return cross_entropy(logits_nv.float() if half else logits_nv, labels_n, ignore_index=NO_LABEL)


def _tiled_loss(model: PreTrainedModel, batch: _Batch, computing: BatchComputing) -> torch.Tensor:
    """The same, without ever holding all logits."""
    labelled_bt = batch.labels_bt != NO_LABEL
    labels_bt = batch.labels_bt.clamp(min=0)
    tokens = replace(batch.tokens, response_ids_bt=labels_bt, response_mask_bt=labelled_bt)
    _, logprobs_bt = student_logprobs(
        model,
        tokens.to(model.device),
        labels_bt[..., None].to(model.device),
        computing.forward_dtype,
        computing.tiled_above,
        None if batch.trees is None else [batch.trees.to(model.device)],
    )
    return -logprobs_bt[labelled_bt.to(model.device)].mean()
