"""The data of one training step, prepared on the host before the step begins."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

import torch
from torch import Tensor

from distil_core.config.models import Layout
from distil_core.policy.batching import ResponseBatch, collate
from distil_core.policy.sequences import Sequences
from distil_core.training.feedback_rows import FeedbackRow, FeedbackRows
from distil_core.training.objective_batch import RowLabels, expert_buckets, make_labels
from distil_core.training.policy_tokens import PolicyTokens, marked_bt, policy_tokens
from distil_core.training.student_logprobs import as_sequences
from distil_core.training.token_weights import token_weights


@dataclass(frozen=True)
class BatchPart:
    """The rows of one forward pass: tokens, the expert's ids, and their layout. policys: which
    tokens the policy wrote; None for all."""

    tokens: ResponseBatch
    expert_ids_btk: Tensor
    sequences: list[Sequences] | None
    policys: PolicyTokens | None = None

    def to(self, device: torch.device) -> BatchPart:
        """The same part on another device."""
        sequences = self.sequences
        if sequences is not None:
            sequences = [one.to(device) for one in sequences]
        policys = None if self.policys is None else self.policys.to(device)
        return BatchPart(self.tokens.to(device), self.expert_ids_btk.to(device), sequences, policys)

    @property
    def trained(self) -> ResponseBatch | PolicyTokens:
        """Response tokens of which objectives are told."""
        return self.policys or self.tokens


@dataclass(frozen=True)
class StepBatch:
    """All rows of one step, on the CPU. labels: what an objective reads besides the student. parts:
    the same rows in micro-batches. num_masked: how many rows do not train. weights_bt: how much
    each token counts; None where all count alike. marked_bt: tokens of turns that the environment
    marks; None where there are none."""

    rollout_ids: list[str]
    labels: RowLabels
    parts: list[BatchPart]
    num_masked: int
    weights_bt: Tensor | None = None
    marked_bt: Tensor | None = None


def make_step_batch(
    rows: FeedbackRows,
    groups: Sequence[Sequence[int]],
    masked: Set[int],
    vocabulary_size: int,
    micro_batch_rollouts: int | None,
    layout: Layout,
    row_weights: dict[int, float] | None = None,
    half_life_tokens: float | None = None,
) -> StepBatch:
    """The rows of these groups. masked: indices of rows that do not train. row_weights,
    half_life_tokens: as in `token_weights`."""
    indices = [index for group in groups for index in group]
    batch_rows = [rows.row(index) for index in indices]
    tokens = collated(batch_rows)
    turns = [row.turns for row in batch_rows]
    policys = policy_tokens(turns, tokens)
    trained = policys or tokens
    length = trained.response_ids_bt.shape[1]
    buckets = expert_buckets(batch_rows, length, vocabulary_size)
    size = micro_batch_rollouts or len(indices)
    parts = []
    for start in range(0, len(indices), size):
        part = slice(start, start + size)
        part_tokens = tokens.rows(part)
        part_policys = None if policys is None else policys.rows(part)
        sequences = as_sequences(part_tokens, layout, part_policys)
        parts.append(BatchPart(part_tokens, buckets[0][part], sequences, part_policys))
    trained_b = torch.tensor([index not in masked for index in indices])
    return StepBatch(
        rollout_ids=[row.rollout_id for row in batch_rows],
        labels=make_labels(
            batch_rows,
            [group_id for group_id, group in enumerate(groups) for _ in group],
            buckets,
            trained.response_mask_bt & trained_b[:, None],
            trained.response_ids_bt,
            rows.any_turn_rewards,
        ),
        parts=parts,
        num_masked=int((~trained_b).sum()),
        weights_bt=token_weights(indices, length, row_weights, half_life_tokens),
        marked_bt=marked_bt(turns, length) if any(turns) else None,
    )


def collated(rows: Sequence[FeedbackRow]) -> ResponseBatch:
    """All tokens of the rows, the environment's too, as one padded batch on the CPU."""
    return collate([row.context_ids for row in rows], [row.read_ids for row in rows], "cpu")
