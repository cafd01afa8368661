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
from distil_core.training.student_logprobs import as_sequences
from distil_core.training.token_weights import token_weights


@dataclass(frozen=True)
class BatchPart:
    """The rows of one forward pass: tokens, the expert's ids, and their layout."""

    tokens: ResponseBatch
    expert_ids_btk: Tensor
    sequences: list[Sequences] | None

    def to(self, device: torch.device) -> BatchPart:
        """The same part on another device."""
        sequences = self.sequences
        if sequences is not None:
            sequences = [one.to(device) for one in sequences]
        return BatchPart(self.tokens.to(device), self.expert_ids_btk.to(device), sequences)


@dataclass(frozen=True)
class StepBatch:
    """All rows of one step, on the CPU. labels: what an objective reads besides the student. parts:
    the same rows in micro-batches. num_masked: how many rows do not train. weights_bt: how much
    each token counts; None where all count alike."""

    rollout_ids: list[str]
    labels: RowLabels
    parts: list[BatchPart]
    num_masked: int
    weights_bt: Tensor | None = None


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
    buckets = expert_buckets(batch_rows, tokens.response_ids_bt.shape[1], vocabulary_size)
    size = micro_batch_rollouts or len(indices)
    parts = []
    for start in range(0, len(indices), size):
        part = slice(start, start + size)
        part_tokens = tokens.rows(part)
        parts.append(BatchPart(part_tokens, buckets[0][part], as_sequences(part_tokens, layout)))
    trained_b = torch.tensor([index not in masked for index in indices])
    return StepBatch(
        rollout_ids=[row.rollout_id for row in batch_rows],
        labels=make_labels(
            batch_rows,
            [group_id for group_id, group in enumerate(groups) for _ in group],
            buckets,
            tokens.response_mask_bt & trained_b[:, None],
            tokens.response_ids_bt,
        ),
        parts=parts,
        num_masked=int((~trained_b).sum()),
        weights_bt=token_weights(
            indices, tokens.response_ids_bt.shape[1], row_weights, half_life_tokens
        ),
    )


def collated(rows: Sequence[FeedbackRow]) -> ResponseBatch:
    """The rows' tokens as one padded batch on the CPU."""
    return collate([row.context_ids for row in rows], [row.response_ids_t for row in rows], "cpu")
