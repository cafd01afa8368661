"""The warm start of a new policy: supervised text before there are any rollouts.

Two kinds of text are mixed, in phases. Demonstrations teach the task, with the demonstrator's
errors. Corrections teach the model to read feedback: the context has an attempt and the tools'
verdict on it, the input follows the attempt's own lines, right or wrong, and the label at each
position is the tool's value there. So the warm-started model, given feedback, is an expert at the
states that a student really visits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from distil_core.config.models import FromScratchBase, OnePassLayout
from distil_core.errors import TrainingError
from distil_core.policy.batching import ResponseBatch, collate, response_logits
from distil_core.policy.prefix_tree import prefix_trees
from distil_core.policy.sequences import Sequences, predicted_logits
from distil_core.progress import ProgressCallback, report_figures
from distil_core.seeds import generator
from distil_core.training.optimizer import make_optimizer, set_learning_rate
from distil_core.training.prefetching import Prefetcher
from distil_core.training.resume import ResumePoint
from distil_core.training.state import TrainingState

_NO_LABEL = -100


@dataclass(frozen=True)
class WarmStartExample:
    """context_ids: the context. input_ids: the response's tokens. label_ids: the right token at
    each of those positions (same length)."""

    context_ids: list[int]
    input_ids: list[int]
    label_ids: list[int]


def warm_start(
    model: PreTrainedModel,
    demonstrations: Sequence[WarmStartExample],
    corrections: Sequence[WarmStartExample],
    params: FromScratchBase,
    seed: int,
    progress: ProgressCallback,
    resume: ResumePoint | None = None,
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
    left = _batches(demonstrations, corrections, params, seed, state.num_done)
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
            loss = _supervised_loss(model, batches.next_batch())
            state.optimizer.zero_grad(set_to_none=True)
            batches.prefetch()
            loss.backward()
            gradient_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), params.max_grad_norm)
            if not torch.isfinite(gradient_norm):
                raise TrainingError(
                    f"warm start: non-finite gradient norm ({gradient_norm.item()}) at step "
                    f"{step} of {total_steps}, loss {loss.item():.4g}. Lower base.learning_rate "
                    "or base.max_grad_norm."
                )
            state.finish_step()
            if resume is not None:
                resume.save(state)
            report_figures(progress, step + 1, {"loss": loss.item()})
            progress(step + 1, total_steps)
    model.eval()


@dataclass(frozen=True)
class _Batch:
    """labels_bt: int64, `_NO_LABEL` on padding. trees: the same rows in prefix trees, or None."""

    tokens: ResponseBatch
    labels_bt: torch.Tensor
    trees: Sequences | None


def _batches(
    demonstrations: Sequence[WarmStartExample],
    corrections: Sequence[WarmStartExample],
    params: FromScratchBase,
    seed: int,
    num_done: int,
) -> Iterator[_Batch]:
    """The batches of the steps from `num_done` on, on the CPU."""
    random = generator(seed, "base", "order")
    step = 0
    for phase in params.phases:
        num_corrections = round(phase.correction_fraction * params.batch_size)
        for _ in range(phase.num_steps):
            chosen = random.integers(0, len(corrections), num_corrections)
            others = random.integers(0, len(demonstrations), params.batch_size - num_corrections)
            step += 1
            # Drawn also for steps that are done, so that the generator continues where it was.
            if step > num_done:
                examples = [corrections[i] for i in chosen] + [demonstrations[i] for i in others]
                yield _batch(examples, params.layout)


def _batch(examples: Sequence[WarmStartExample], layout: OnePassLayout) -> _Batch:
    tokens = collate(
        [example.context_ids for example in examples],
        [example.input_ids for example in examples],
        "cpu",
    )
    labels_bt = torch.full_like(tokens.response_ids_bt, _NO_LABEL)
    labels_bt[tokens.response_mask_bt] = torch.tensor(
        [label for example in examples for label in example.label_ids]
    )
    return _Batch(tokens, labels_bt, prefix_trees(tokens) if layout == "prefix_tree" else None)


def _supervised_loss(model: PreTrainedModel, batch: _Batch) -> torch.Tensor:
    labels_n = batch.labels_bt.flatten().to(model.device)
    if batch.trees is None:
        logits_btv = response_logits(model, batch.tokens.to(model.device))
        return cross_entropy(logits_btv.flatten(0, 1), labels_n, ignore_index=_NO_LABEL)
    trees = batch.trees.to(model.device)
    return cross_entropy(predicted_logits(model, trees), labels_n[trees.places_n])
