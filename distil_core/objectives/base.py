"""The contract of an objective: one batch of feedback rows in, one scalar loss out.

Axes: `b` rollouts, `t` the tokens that the policy wrote (left-aligned, padded at the end; what an
environment wrote between them has no position), `k` buckets of the coarse-grained vocabulary
(docs/method.md#stored-distribution): the expert's stored ids, padding up to the widest position,
and the tail ("every other token") last. All probabilities are natural logarithms.
"""

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from distil_core.registry import ComponentOptions


class ObjectiveOptions(ComponentOptions):
    """Base of an objective's `Options`."""

    @property
    def compares_rollouts(self) -> bool:
        """Whether a prompt with a single rollout would teach nothing, or less than asked for: the
        settings must then ask for two rollouts of each prompt at least."""
        return False


@dataclass(frozen=True)
class ObjectiveBatch:
    """The columns of a batch of feedback rows that any objective may read.

    student_bucket_logprobs_btk: float, with gradient. log of the student's mass on each bucket.
        In a padding bucket the value is arbitrary but finite.
    expert_bucket_logprobs_btk: float, no gradient. log of the expert's mass; `-inf` in padding
        buckets, in an empty tail, and where the expert gives a bucket no mass.
    sampled_logprobs_bt: float, with gradient. log pi(y_t | s_t) under the current student.
    behaviour_logprobs_bt: float. log mu(y_t | s_t) of the sampler really used.
    response_mask_bt: bool. True on tokens of the response that train; False on padding.
    expert_mask_b: bool. False where the expert had nothing to say: the row has no distillation
        loss (reward-only objectives still use it).
    rewards_b: float in [0, 1].
    group_ids_b: int64. Rollouts of the same prompt share an id; groups are never split.
    sampled_buckets_bt: int64, or None where no objective needs it. Index on the k axis of the
        bucket that holds y_t: its stored id, else the tail (the last). Any valid index on padding.
    by_expert_b: bool, or None where the student sampled every row. True on rows that the expert
        wrote itself: they have no behaviour log-probability, reward or future credit, only labels.
    """

    student_bucket_logprobs_btk: Tensor
    expert_bucket_logprobs_btk: Tensor
    sampled_logprobs_bt: Tensor
    behaviour_logprobs_bt: Tensor
    response_mask_bt: Tensor
    expert_mask_b: Tensor
    rewards_b: Tensor
    group_ids_b: Tensor
    sampled_buckets_bt: Tensor | None = None
    by_expert_b: Tensor | None = None

    @property
    def sampled_rows_b(self) -> Tensor:
        """True on rows that the student sampled; bool [B]."""
        if self.by_expert_b is None:
            return torch.ones_like(self.expert_mask_b)
        return ~self.by_expert_b


@dataclass(frozen=True)
class ObjectiveOutput:
    """loss: scalar with gradient. per_token_loss_bt: detached, 0 at masked positions, to find the
    rows behind a bad value. diagnostics: floats for the training curve."""

    loss: Tensor
    per_token_loss_bt: Tensor
    diagnostics: dict[str, float] = field(default_factory=dict)


@runtime_checkable
class Objective(Protocol):
    """Callable on an `ObjectiveBatch`; built from its module's `Options`.

    What is masked may hold anything, NaN included, and must reach neither loss nor gradient. A
    batch is a part of the rows, in any order, so that the loss must not depend on it; a prompt's
    rollouts are never apart.
    """

    def __call__(self, batch: ObjectiveBatch) -> ObjectiveOutput: ...


def importance_weights_bt(batch: ObjectiveBatch, is_clip: float) -> Tensor:
    """w_t = min(pi / mu, is_clip), no gradient (docs/method.md#objective); [B, T].

    1 on rows that the expert wrote: their states are taken as given.
    """
    ratio_bt = torch.exp(batch.sampled_logprobs_bt.detach() - batch.behaviour_logprobs_bt)
    weights_bt = torch.clamp(ratio_bt, max=is_clip)
    return torch.where(batch.sampled_rows_b[:, None], weights_bt, 1.0)
