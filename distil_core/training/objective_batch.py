"""From feedback rows and the student's log-probabilities to an `ObjectiveBatch`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from distil_core.objectives.base import ObjectiveBatch
from distil_core.objectives.estimators.as_sampled import BatchAsSampled
from distil_core.objectives.estimators.turn_rewards import BatchOfTurnRewards
from distil_core.objectives.estimators.turns import BatchOfTurns
from distil_core.training.feedback_rows import FeedbackRow
from distil_core.training.policy_tokens import turn_numbers_bt, turn_rewards_bn


@dataclass(frozen=True)
class RowLabels:
    """The fields of an `ObjectiveBatch` that do not depend on the student, with its names and
    shapes. turn_ids_bt: of a `BatchOfTurns`; None where no row has turns. turn_rewards_bn,
    num_turns_b: of a `BatchOfTurnRewards`; None where no row of any batch has such rewards."""

    expert_bucket_logprobs_btk: Tensor
    behaviour_logprobs_bt: Tensor
    response_mask_bt: Tensor
    expert_mask_b: Tensor
    rewards_b: Tensor
    group_ids_b: Tensor
    sampled_buckets_bt: Tensor
    by_expert_b: Tensor
    turn_ids_bt: Tensor | None = None
    turn_rewards_bn: Tensor | None = None
    num_turns_b: Tensor | None = None


def make_labels(
    rows: Sequence[FeedbackRow],
    group_ids: Sequence[int],
    expert_buckets: tuple[Tensor, Tensor],
    response_mask_bt: Tensor,
    response_ids_bt: Tensor,
    has_turn_rewards: bool = False,
) -> RowLabels:
    """The labels of these rows, on the CPU like the tensors given, which are of the policy's tokens
    alone. expert_buckets: ids and log-mass from the function of that name. has_turn_rewards: of all
    rows that are trained on, these among them."""
    turns = [row.turns for row in rows]
    rewards_bn, num_turns_b = turn_rewards_bn(turns) if has_turn_rewards else (None, None)
    ids_btk, expert_btk = expert_buckets
    sampled_btk = ids_btk == response_ids_bt[..., None]
    tail_bucket = ids_btk.shape[-1]
    return RowLabels(
        expert_bucket_logprobs_btk=expert_btk,
        behaviour_logprobs_bt=_padded(
            [row.behaviour_logprobs_t for row in rows], response_ids_bt.shape[1]
        ),
        response_mask_bt=response_mask_bt,
        expert_mask_b=torch.tensor([row.has_expert for row in rows]),
        rewards_b=torch.tensor([row.reward for row in rows]),
        group_ids_b=torch.tensor(group_ids),
        sampled_buckets_bt=torch.where(
            sampled_btk.any(-1), sampled_btk.int().argmax(-1), tail_bucket
        ),
        by_expert_b=torch.tensor([row.by_expert for row in rows]),
        turn_ids_bt=turn_numbers_bt(turns, response_ids_bt.shape[1]) if any(turns) else None,
        turn_rewards_bn=rewards_bn,
        num_turns_b=num_turns_b,
    )


def make_objective_batch(labels: RowLabels, student_logprobs: tuple[Tensor, ...]) -> ObjectiveBatch:
    """The batch that an objective reads, on the student's device. student_logprobs: on the buckets
    and of the sampled tokens, also at a temperature where asked for, from the function of that
    name."""
    student_btk, sampled_bt, *as_sampled = student_logprobs
    moved = {
        name: value.to(sampled_bt.device)
        for name, value in vars(labels).items()
        if value is not None
    }
    if labels.turn_ids_bt is not None or labels.turn_rewards_bn is not None:
        kind = BatchOfTurns if labels.turn_rewards_bn is None else BatchOfTurnRewards
        return kind(
            student_bucket_logprobs_btk=student_btk,
            sampled_logprobs_bt=sampled_bt,
            as_sampled_logprobs_bt=as_sampled[0] if as_sampled else None,
            **moved,
        )
    if as_sampled:
        return BatchAsSampled(
            student_bucket_logprobs_btk=student_btk,
            sampled_logprobs_bt=sampled_bt,
            as_sampled_logprobs_bt=as_sampled[0],
            **moved,
        )
    return ObjectiveBatch(
        student_bucket_logprobs_btk=student_btk, sampled_logprobs_bt=sampled_bt, **moved
    )


def expert_buckets(
    rows: Sequence[FeedbackRow], length: int, vocabulary_size: int
) -> tuple[Tensor, Tensor]:
    """ids [B, T, K] padded with the vocabulary's size; log-mass [B, T, K + 1] padded with -inf."""
    counts_bt = np.zeros((len(rows), length), np.int64)
    tails_bt = np.full((len(rows), length), -np.inf, np.float32)
    labelled = [b for b, row in enumerate(rows) if row.has_expert]
    for b in labelled:
        row = rows[b]
        counts_bt[b, : len(row.expert_counts_t)] = row.expert_counts_t
        tails_bt[b, : len(row.expert_counts_t)] = row.expert_tail_logprobs_t
    width = max(1, int(counts_bt.max()))
    # By row and position, the order of ids and log-probabilities.
    stored_btk = np.arange(width) < counts_bt[..., None]
    ids_btk = np.full(stored_btk.shape, vocabulary_size, np.int64)
    logprobs_btk = np.full((*counts_bt.shape, width + 1), -np.inf, np.float32)
    logprobs_btk[..., -1] = tails_bt
    if labelled:
        ids_btk[stored_btk] = np.concatenate([rows[b].expert_ids for b in labelled])
        logprobs_btk[..., :-1][stored_btk] = np.concatenate(
            [rows[b].expert_logprobs for b in labelled]
        )
    return torch.from_numpy(ids_btk), torch.from_numpy(logprobs_btk)


def _padded(rows: Sequence[np.ndarray], length: int) -> Tensor:
    padded_bt = np.zeros((len(rows), length), dtype=np.float32)
    for b, row in enumerate(rows):
        padded_bt[b, : len(row)] = row
    return torch.from_numpy(padded_bt)
