"""Checks of an objective: what it makes of batches of every awkward shape."""

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from distil_core.objectives import OBJECTIVES
from distil_core.objectives.base import ObjectiveBatch
from distil_core.objectives.estimators.turns import BatchOfTurns
from distil_core.testing.checks import Check, require, require_all_passed
from distil_core.testing.contract import contract_checks
from distil_core.testing.objective_batches import (
    random_batch,
    select_rows,
    with_more_padding,
    with_random_turns,
    without_holes,
)
from distil_core.testing.objective_runs import (
    ObjectiveSubject,
    nan_where,
    require_close,
    require_same,
    run,
)
from distil_core.testing.stop_gradients import directional_derivative

_SEEDS = range(6)


def objective_checks(
    component: str | ModuleType, options: Mapping[str, Any] | None = None
) -> list[Check]:
    """The checks of an objective, named as in settings, with these options."""
    subject = ObjectiveSubject(OBJECTIVES, component, options)

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
            "rollouts of several turns train, in any order",
            _takes_turns,
            "keep what a batch of turns has beside a plain one: dataclasses.replace, not a new "
            "ObjectiveBatch; compute from a row or its group, never from its place",
        ),
        subject.check(
            "with several turns, what stands on padding is not read",
            _ignores_padding_of_turns,
            "padding may have any turn: read turn_ids_bt where response_mask_bt is True alone",
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


def _batches(subject: ObjectiveSubject) -> list[ObjectiveBatch]:
    return [
        *(subject.batch(seed) for seed in _SEEDS),
        subject.batch(20, rows=1),
        subject.batch(21, rows=8),
        subject.batch(22, positions=1),
        subject.batch(23, tokens=1, padding_buckets=0),
    ]


def _is_finite(subject: ObjectiveSubject) -> None:
    for batch in _batches(subject):
        output, gradients = run(subject, batch)
        require(bool(torch.isfinite(output.loss)), f"the loss is {output.loss.item()}")
        for gradient in gradients:
            require(bool(torch.isfinite(gradient).all()), "the gradient is not finite")


def _tells_token_losses(subject: ObjectiveSubject) -> None:
    for batch in _batches(subject):
        losses_bt = run(subject, batch)[0].per_token_loss_bt
        shape = tuple(batch.response_mask_bt.shape)
        require(tuple(losses_bt.shape) == shape, f"its shape is {tuple(losses_bt.shape)}")
        require(not losses_bt.requires_grad, "it has a gradient")
        masked = losses_bt[~batch.response_mask_bt]
        require(bool((masked == 0).all()), "a masked position has a loss")


def _diagnostics_are_floats(subject: ObjectiveSubject) -> None:
    names = set()
    for batch in _batches(subject):
        diagnostics = run(subject, batch)[0].diagnostics
        names.add(tuple(diagnostics))
        for name, value in diagnostics.items():
            require(type(value) is float, f"{name!r} is {type(value).__name__}")
            require(math.isfinite(value), f"{name!r} is {value}")
    require(len(names) == 1, f"their names differ from batch to batch: {sorted(names)}")


def _ignores_masked(subject: ObjectiveSubject) -> None:
    for batch in _batches(subject):
        masked_bt = ~batch.response_mask_bt
        other = replace(
            batch,
            student_bucket_logprobs_btk=nan_where(
                batch.student_bucket_logprobs_btk, masked_bt[..., None]
            ),
            expert_bucket_logprobs_btk=nan_where(
                batch.expert_bucket_logprobs_btk, masked_bt[..., None]
            ),
            sampled_logprobs_bt=nan_where(batch.sampled_logprobs_bt, masked_bt),
            behaviour_logprobs_bt=nan_where(batch.behaviour_logprobs_bt, masked_bt),
        )
        require_same(subject, batch, other, "NaN at masked positions")
        for gradient in run(subject, batch)[1]:
            require(bool((gradient[masked_bt] == 0).all()), "a masked position has a gradient")


def _ignores_masked_experts(subject: ObjectiveSubject) -> None:
    for batch in _batches(subject):
        silent = ~batch.expert_mask_b[:, None, None]
        other = replace(
            batch,
            expert_bucket_logprobs_btk=nan_where(batch.expert_bucket_logprobs_btk, silent),
        )
        require_same(subject, batch, other, "NaN as the expert's values of rows without expert")


def _nothing_to_train(subject: ObjectiveSubject) -> None:
    batch = subject.batch(3)
    for name, empty in (
        ("no token trains", {"response_mask_bt": torch.zeros_like(batch.response_mask_bt)}),
        ("no row has an expert", {"expert_mask_b": torch.zeros_like(batch.expert_mask_b)}),
    ):
        output, gradients = run(subject, replace(batch, **empty))
        finite = [torch.isfinite(output.loss), *(torch.isfinite(g).all() for g in gradients)]
        require(all(map(bool, finite)), f"where {name}, loss or gradient are not finite")
        if "response_mask_bt" in empty:
            still = all(bool((gradient == 0).all()) for gradient in gradients)
            require(still, f"where {name}, there is a gradient")


def _takes_rows_of_the_expert(subject: ObjectiveSubject) -> None:
    for batch in (subject.batch(seed, rows=6) for seed in _SEEDS):
        by_expert_b = torch.arange(6) % 3 == 0
        mixed = replace(batch, by_expert_b=by_expert_b)
        other = replace(
            mixed,
            behaviour_logprobs_bt=torch.where(
                by_expert_b[:, None], -3.0, batch.behaviour_logprobs_bt
            ),
            rewards_b=torch.where(by_expert_b, 7.0, batch.rewards_b),
        )
        require_same(subject, mixed, other, "another reward and sampler of the expert's own rows")


def _ignores_order(subject: ObjectiveSubject) -> None:
    for seed in _SEEDS:
        batch = subject.batch(seed, rows=7)
        order = torch.randperm(7, generator=torch.Generator().manual_seed(seed))
        output, gradients = run(subject, batch)
        other, other_gradients = run(subject, select_rows(batch, order))
        require_close(output.loss, other.loss, "the loss in another order of rows")
        require_close(output.per_token_loss_bt[order], other.per_token_loss_bt, "the loss by token")
        for gradient, moved in zip(gradients, other_gradients, strict=True):
            require_close(gradient[order], moved, "the gradient in another order of rows")


def _batches_of_turns(subject: ObjectiveSubject) -> list[BatchOfTurns]:
    """As training makes them: the policy's own tokens, one after another."""
    rewarded = [
        with_random_turns(without_holes(random_batch(seed, rows=7, positions=9)), seed)
        for seed in _SEEDS
    ]
    if subject.reads_turn_rewards:
        return [*rewarded]
    names = [field.name for field in fields(BatchOfTurns)]
    plain = [BatchOfTurns(**{name: getattr(one, name) for name in names}) for one in rewarded]
    return [*rewarded, *plain]


def _takes_turns(subject: ObjectiveSubject) -> None:
    for batch in _batches_of_turns(subject):
        output, gradients = run(subject, batch)
        finite = [torch.isfinite(output.loss), *(torch.isfinite(g).all() for g in gradients)]
        require(all(map(bool, finite)), "loss or gradient are not finite")
        order = torch.arange(len(batch.rewards_b)).roll(3)
        other, other_gradients = run(subject, select_rows(batch, order))
        require_close(output.loss, other.loss, "the loss in another order of rows")
        for gradient, moved in zip(gradients, other_gradients, strict=True):
            require_close(gradient[order], moved, "the gradient in another order of rows")


def _ignores_padding_of_turns(subject: ObjectiveSubject) -> None:
    for batch in _batches_of_turns(subject):
        output, gradients = run(subject, batch)
        other, other_gradients = run(subject, with_more_padding(batch))
        require_close(output.loss, other.loss, "the loss with other padding")
        length = batch.response_mask_bt.shape[1]
        for gradient, wider in zip(gradients, other_gradients, strict=True):
            require_close(gradient, wider[:, :length], "the gradient with other padding")


def _compares_as_told(subject: ObjectiveSubject) -> None:
    told = subject.options.compares_rollouts
    require(isinstance(told, bool), f"it is {told!r}, expected True or False")
    if told:
        return
    for batch in _batches(subject):
        alone = replace(batch, group_ids_b=torch.arange(len(batch.group_ids_b)))
        together = replace(batch, group_ids_b=torch.zeros_like(batch.group_ids_b))
        require_same(subject, alone, together, "compares_rollouts is False, but other groups")


def _gradient_is_right(subject: ObjectiveSubject) -> None:
    """In the student's logits: so the student stays a distribution, wherever it is moved."""
    for seed in _SEEDS:
        batch = subject.batch(seed, padding_buckets=1)
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


def _works_in_lower_precision(subject: ObjectiveSubject) -> None:
    for seed in _SEEDS:
        exact = subject.batch(seed, rows=8)
        # With the sampler that the student is: rounding must not decide where a ratio is clipped.
        exact = replace(exact, behaviour_logprobs_bt=exact.sampled_logprobs_bt)
        expected = run(subject, exact)[0].loss.item()
        for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 5e-2)):
            low = replace(
                exact,
                student_bucket_logprobs_btk=exact.student_bucket_logprobs_btk.to(dtype),
                expert_bucket_logprobs_btk=exact.expert_bucket_logprobs_btk.to(dtype),
                sampled_logprobs_bt=exact.sampled_logprobs_bt.to(dtype),
                behaviour_logprobs_bt=exact.behaviour_logprobs_bt.to(dtype),
                rewards_b=exact.rewards_b.to(dtype),
            )
            found = run(subject, low)[0].loss.item()
            require(
                abs(found - expected) <= tolerance * max(1.0, abs(expected)),
                f"in {dtype} the loss is {found:.6g}, in float64 {expected:.6g}",
            )


def _leaves_the_batch(subject: ObjectiveSubject) -> None:
    for batch in _batches(subject):
        before = {name: value.clone() for name, value in _tensors(batch)}
        first, second = run(subject, batch)[0], run(subject, batch)[0]
        require(torch.equal(first.loss, second.loss), "the same batch gave two losses")
        changed = [name for name, value in _tensors(batch) if not torch.equal(value, before[name])]
        require(not changed, f"it changed {', '.join(changed)}")


def _tensors(batch: ObjectiveBatch) -> list[tuple[str, Tensor]]:
    return [(name, value) for name, value in vars(batch).items() if value is not None]
