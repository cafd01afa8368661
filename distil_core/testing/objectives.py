"""Checks of an objective: what it makes of batches of every awkward shape."""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from distil_core.objectives import OBJECTIVES
from distil_core.objectives.base import (
    Objective,
    ObjectiveBatch,
    ObjectiveOptions,
    ObjectiveOutput,
)
from distil_core.testing.checks import Check, require, require_all_passed
from distil_core.testing.contract import Subject, contract_checks
from distil_core.testing.objective_batches import random_batch, select_rows, with_leaves
from distil_core.testing.stop_gradients import directional_derivative

_SEEDS = range(6)
_RELATIVE_TOLERANCE = 1e-6


class _ObjectiveSubject(Subject[ObjectiveOptions, Objective]):
    @cached_property
    def objective(self) -> Objective:
        return self.build()


def objective_checks(
    component: str | ModuleType, options: Mapping[str, Any] | None = None
) -> list[Check]:
    """The checks of an objective, named as in settings, with these options."""
    subject = _ObjectiveSubject(OBJECTIVES, component, options)

    return [
        *contract_checks(subject),
        subject.check(
            "loss and gradient are finite on ragged rows",
            _is_finite,
            "take masks into account before the arithmetic, not after: 0 * -inf is NaN",
        ),
        subject.check(
            "the loss by token is detached, and 0 where nothing trains",
            _tells_token_losses,
            "give ObjectiveOutput the masked losses with .detach()",
        ),
        subject.check(
            "diagnostics are finite plain floats",
            _diagnostics_are_floats,
            "make them of .item() or .tolist()",
        ),
        subject.check(
            "what is masked is not read, and gets no gradient",
            _ignores_masked,
            "replace masked values with torch.where before anything is computed from them",
        ),
        subject.check(
            "where the expert has nothing to say, its values are not read",
            _ignores_masked_experts,
            "read expert_mask_b, as estimators.matching.matched_distributions does",
        ),
        subject.check(
            "a batch in which nothing trains has no gradient",
            _nothing_to_train,
            "divide by a count of at least 1 (.clamp(min=1))",
        ),
        subject.check(
            "rows that the expert wrote need no reward and no sampler's log-probability",
            _takes_rows_of_the_expert,
            "read batch.sampled_rows_b",
        ),
        subject.check(
            "the order of rows does not matter",
            _ignores_order,
            "compute from a row, or from its group by group_ids_b, never from its place",
        ),
        subject.check(
            "compares_rollouts says whether other rollouts of a prompt count",
            _compares_as_told,
            "override the property compares_rollouts of your Options to return True",
        ),
        subject.check(
            "the gradient is that of the loss (float64, stop-gradients held fixed)",
            _gradient_is_right,
            "look for in-place changes, for values made with .item(), or for a custom backward",
        ),
        subject.check(
            "float32 and bfloat16 give the loss of float64",
            _works_in_lower_precision,
            "compute in float32 at least (estimators.matching.at_least_float32)",
        ),
        subject.check(
            "the batch is not changed, and the same batch gives the same loss",
            _leaves_the_batch,
            "change no tensor of the batch in place, and draw no random numbers",
        ),
    ]


def check_objective(component: str | ModuleType, options: Mapping[str, Any] | None = None) -> None:
    """Raise `CheckFailedError`, an AssertionError with a table of all checks, where any fails."""
    checks = objective_checks(component, options)
    require_all_passed(f"objective {component!s}", checks)


def _batches() -> list[ObjectiveBatch]:
    return [
        *(random_batch(seed) for seed in _SEEDS),
        random_batch(20, rows=1),
        random_batch(21, rows=8),
        random_batch(22, positions=1),
        random_batch(23, tokens=1, padding_buckets=0),
    ]


def _run(subject: _ObjectiveSubject, batch: ObjectiveBatch) -> tuple[ObjectiveOutput, list[Tensor]]:
    """The output, and the gradients of the student's buckets and of its sampled tokens."""
    leaves, *parts = with_leaves(batch)
    output = subject.objective(leaves)
    require(
        isinstance(output, ObjectiveOutput),
        f"it returned {type(output).__name__}, expected an ObjectiveOutput",
    )
    require(output.loss.dim() == 0, f"the loss has shape {tuple(output.loss.shape)}, expected ()")
    require(output.loss.requires_grad, "the loss has no gradient (was it detached?)")
    gradients = torch.autograd.grad(output.loss, parts, allow_unused=True)
    return output, [
        torch.zeros_like(part) if gradient is None else gradient
        for part, gradient in zip(parts, gradients, strict=True)
    ]


def _is_finite(subject: _ObjectiveSubject) -> None:
    for batch in _batches():
        output, gradients = _run(subject, batch)
        require(bool(torch.isfinite(output.loss)), f"the loss is {output.loss.item()}")
        for gradient in gradients:
            require(bool(torch.isfinite(gradient).all()), "the gradient is not finite")


def _tells_token_losses(subject: _ObjectiveSubject) -> None:
    for batch in _batches():
        losses_bt = _run(subject, batch)[0].per_token_loss_bt
        shape = tuple(batch.response_mask_bt.shape)
        require(tuple(losses_bt.shape) == shape, f"its shape is {tuple(losses_bt.shape)}")
        require(not losses_bt.requires_grad, "it has a gradient")
        masked = losses_bt[~batch.response_mask_bt]
        require(bool((masked == 0).all()), "a masked position has a loss")


def _diagnostics_are_floats(subject: _ObjectiveSubject) -> None:
    names = set()
    for batch in _batches():
        diagnostics = _run(subject, batch)[0].diagnostics
        names.add(tuple(diagnostics))
        for name, value in diagnostics.items():
            require(type(value) is float, f"{name!r} is {type(value).__name__}")
            require(math.isfinite(value), f"{name!r} is {value}")
    require(len(names) == 1, f"their names differ from batch to batch: {sorted(names)}")


def _ignores_masked(subject: _ObjectiveSubject) -> None:
    for batch in _batches():
        masked_bt = ~batch.response_mask_bt
        other = replace(
            batch,
            student_bucket_logprobs_btk=_nan_where(
                batch.student_bucket_logprobs_btk, masked_bt[..., None]
            ),
            expert_bucket_logprobs_btk=_nan_where(
                batch.expert_bucket_logprobs_btk, masked_bt[..., None]
            ),
            sampled_logprobs_bt=_nan_where(batch.sampled_logprobs_bt, masked_bt),
            behaviour_logprobs_bt=_nan_where(batch.behaviour_logprobs_bt, masked_bt),
        )
        _require_same(subject, batch, other, "NaN at masked positions")
        for gradient in _run(subject, batch)[1]:
            require(bool((gradient[masked_bt] == 0).all()), "a masked position has a gradient")


def _ignores_masked_experts(subject: _ObjectiveSubject) -> None:
    for batch in _batches():
        silent = ~batch.expert_mask_b[:, None, None]
        other = replace(
            batch,
            expert_bucket_logprobs_btk=_nan_where(batch.expert_bucket_logprobs_btk, silent),
        )
        _require_same(subject, batch, other, "NaN as the expert's values of rows without expert")


def _nothing_to_train(subject: _ObjectiveSubject) -> None:
    batch = random_batch(3)
    for name, empty in (
        ("no token trains", {"response_mask_bt": torch.zeros_like(batch.response_mask_bt)}),
        ("no row has an expert", {"expert_mask_b": torch.zeros_like(batch.expert_mask_b)}),
    ):
        output, gradients = _run(subject, replace(batch, **empty))
        finite = [torch.isfinite(output.loss), *(torch.isfinite(g).all() for g in gradients)]
        require(all(map(bool, finite)), f"where {name}, loss or gradient are not finite")
        if "response_mask_bt" in empty:
            still = all(bool((gradient == 0).all()) for gradient in gradients)
            require(still, f"where {name}, there is a gradient")


def _takes_rows_of_the_expert(subject: _ObjectiveSubject) -> None:
    for batch in (random_batch(seed, rows=6) for seed in _SEEDS):
        by_expert_b = torch.arange(6) % 3 == 0
        mixed = replace(batch, by_expert_b=by_expert_b)
        other = replace(
            mixed,
            behaviour_logprobs_bt=torch.where(
                by_expert_b[:, None], -3.0, batch.behaviour_logprobs_bt
            ),
            rewards_b=torch.where(by_expert_b, 7.0, batch.rewards_b),
        )
        _require_same(subject, mixed, other, "another reward and sampler of the expert's own rows")


def _ignores_order(subject: _ObjectiveSubject) -> None:
    for seed in _SEEDS:
        batch = random_batch(seed, rows=7)
        order = torch.randperm(7, generator=torch.Generator().manual_seed(seed))
        output, gradients = _run(subject, batch)
        other, other_gradients = _run(subject, select_rows(batch, order))
        _require_close(output.loss, other.loss, "the loss in another order of rows")
        _require_close(
            output.per_token_loss_bt[order], other.per_token_loss_bt, "the loss by token"
        )
        for gradient, moved in zip(gradients, other_gradients, strict=True):
            _require_close(gradient[order], moved, "the gradient in another order of rows")


def _compares_as_told(subject: _ObjectiveSubject) -> None:
    told = subject.options.compares_rollouts
    require(isinstance(told, bool), f"it is {told!r}, expected True or False")
    if told:
        return
    for batch in _batches():
        alone = replace(batch, group_ids_b=torch.arange(len(batch.group_ids_b)))
        together = replace(batch, group_ids_b=torch.zeros_like(batch.group_ids_b))
        _require_same(subject, alone, together, "compares_rollouts is False, but other groups")


def _gradient_is_right(subject: _ObjectiveSubject) -> None:
    """In the student's logits: so the student stays a distribution, wherever it is moved."""
    for seed in _SEEDS:
        batch = random_batch(seed, padding_buckets=1)
        student_btk = batch.student_bucket_logprobs_btk
        real_btk = torch.cat([student_btk[..., :-2], student_btk[..., -1:]], dim=-1)
        padding_bt1 = student_btk[..., -2:-1]

        def loss_of(
            logits_btk: Tensor, batch: ObjectiveBatch = batch, padding_bt1: Tensor = padding_bt1
        ) -> Tensor:
            logprobs_btk = torch.log_softmax(logits_btk, dim=-1)
            parts = (logprobs_btk[..., :-1], padding_bt1, logprobs_btk[..., -1:])
            student_btk = torch.cat(parts, dim=-1)
            buckets_bt = batch.sampled_buckets_bt
            assert buckets_bt is not None
            sampled_bt = student_btk.gather(-1, buckets_bt[..., None])[..., 0]
            moved = replace(
                batch, student_bucket_logprobs_btk=student_btk, sampled_logprobs_bt=sampled_bt
            )
            return subject.objective(moved).loss

        generator = torch.Generator().manual_seed(seed)
        direction = torch.randn(real_btk.shape, generator=generator, dtype=real_btk.dtype)
        logits_btk = real_btk.clone().requires_grad_(True)
        [gradient] = torch.autograd.grad(loss_of(logits_btk), [logits_btk])
        found = (gradient * direction).sum().item()
        expected = directional_derivative(loss_of, real_btk, direction)
        require(
            abs(found - expected) <= 1e-5 * max(1.0, abs(expected)),
            f"along a random direction it is {found:.8g}, by differences {expected:.8g}",
        )


def _works_in_lower_precision(subject: _ObjectiveSubject) -> None:
    for seed in _SEEDS:
        exact = random_batch(seed, rows=8)
        # With the sampler that the student is: rounding must not decide where a ratio is clipped.
        exact = replace(exact, behaviour_logprobs_bt=exact.sampled_logprobs_bt)
        expected = _run(subject, exact)[0].loss.item()
        for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 5e-2)):
            low = replace(
                exact,
                student_bucket_logprobs_btk=exact.student_bucket_logprobs_btk.to(dtype),
                expert_bucket_logprobs_btk=exact.expert_bucket_logprobs_btk.to(dtype),
                sampled_logprobs_bt=exact.sampled_logprobs_bt.to(dtype),
                behaviour_logprobs_bt=exact.behaviour_logprobs_bt.to(dtype),
                rewards_b=exact.rewards_b.to(dtype),
            )
            found = _run(subject, low)[0].loss.item()
            require(
                abs(found - expected) <= tolerance * max(1.0, abs(expected)),
                f"in {dtype} the loss is {found:.6g}, in float64 {expected:.6g}",
            )


def _leaves_the_batch(subject: _ObjectiveSubject) -> None:
    for batch in _batches():
        before = {name: value.clone() for name, value in _tensors(batch)}
        first, second = _run(subject, batch)[0], _run(subject, batch)[0]
        require(torch.equal(first.loss, second.loss), "the same batch gave two losses")
        changed = [name for name, value in _tensors(batch) if not torch.equal(value, before[name])]
        require(not changed, f"it changed {', '.join(changed)}")


def _tensors(batch: ObjectiveBatch) -> list[tuple[str, Tensor]]:
    return [(name, value) for name, value in vars(batch).items() if value is not None]


def _nan_where(values: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, torch.nan, values)


def _require_same(
    subject: _ObjectiveSubject, batch: ObjectiveBatch, other: ObjectiveBatch, what: str
) -> None:
    output, gradients = _run(subject, batch)
    changed, changed_gradients = _run(subject, other)
    _require_close(output.loss, changed.loss, f"the loss with {what}")
    for gradient, moved in zip(gradients, changed_gradients, strict=True):
        _require_close(gradient, moved, f"the gradient with {what}")


def _require_close(found: Tensor, other: Tensor, what: str) -> None:
    close = torch.allclose(found, other, rtol=_RELATIVE_TOLERANCE, atol=1e-9)
    difference = (found - other).abs().max().item() if found.numel() else 0.0
    require(close, f"{what} is another one, by up to {difference:.3g}")
