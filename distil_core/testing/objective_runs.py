"""An objective under test, run on batches."""

from functools import cached_property

import torch
from torch import Tensor

from distil_core.objectives.base import (
    Objective,
    ObjectiveBatch,
    ObjectiveOptions,
    ObjectiveOutput,
)
from distil_core.testing.checks import require
from distil_core.testing.contract import Subject
from distil_core.testing.objective_batches import random_batch, with_leaves, with_random_turns

_RELATIVE_TOLERANCE = 1e-6


class ObjectiveSubject(Subject[ObjectiveOptions, Objective]):
    """The objective, built once, and what it trains on."""

    @cached_property
    def objective(self) -> Objective:
        """As its module builds it."""
        return self.build()

    @property
    def reads_turn_rewards(self) -> bool:
        """Whether it trains on nothing but batches with rewards of turns."""
        return bool(getattr(self.options, "reads_turn_rewards", False))

    def batch(
        self,
        seed: int,
        *,
        rows: int = 5,
        positions: int = 6,
        tokens: int = 4,
        padding_buckets: int = 1,
    ) -> ObjectiveBatch:
        """A random batch of a kind that the objective trains on."""
        batch = random_batch(
            seed, rows=rows, positions=positions, tokens=tokens, padding_buckets=padding_buckets
        )
        return with_random_turns(batch, seed) if self.reads_turn_rewards else batch


def run(subject: ObjectiveSubject, batch: ObjectiveBatch) -> tuple[ObjectiveOutput, list[Tensor]]:
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


def nan_where(values: Tensor, mask: Tensor) -> Tensor:
    """The values, with NaN where the mask is True."""
    return torch.where(mask, torch.nan, values)


def require_same(
    subject: ObjectiveSubject, batch: ObjectiveBatch, other: ObjectiveBatch, what: str
) -> None:
    """The two batches have one loss and one gradient."""
    output, gradients = run(subject, batch)
    changed, changed_gradients = run(subject, other)
    require_close(output.loss, changed.loss, f"the loss with {what}")
    for gradient, moved in zip(gradients, changed_gradients, strict=True):
        require_close(gradient, moved, f"the gradient with {what}")


def require_close(found: Tensor, other: Tensor, what: str) -> None:
    """The two are equal but for rounding."""
    close = torch.allclose(found, other, rtol=_RELATIVE_TOLERANCE, atol=1e-9)
    difference = (found - other).abs().max().item() if found.numel() else 0.0
    require(close, f"{what} is another one, by up to {difference:.3g}")
