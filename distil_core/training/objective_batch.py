"""From feedback rows and the student's logits to what an objective reads."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from distil_core.objectives.base import ObjectiveBatch
from distil_core.training.feedback_rows import FeedbackRow


def bucket_logprobs(logprobs_btv: Tensor, expert_ids_btk: Tensor) -> Tensor:
    """The student's log-mass on each stored id and on the tail, [B, T, K + 1].

    expert_ids_btk: int64; the vocabulary's size marks padding. The tail is summed over its own
    tokens, so it is exact however small. Where it is empty, a finite value without gradient
    stands in its place (the expert's mass there is zero, so nothing is multiplied by it).
    """
    vocabulary_size = logprobs_btv.shape[-1]
    gathered_btk = logprobs_btv.gather(-1, expert_ids_btk.clamp(max=vocabulary_size - 1))
    batch_shape = logprobs_btv.shape[:-1]
    stored_btv = torch.zeros(
        (*batch_shape, vocabulary_size + 1), dtype=torch.bool, device=logprobs_btv.device
    ).scatter(-1, expert_ids_btk, torch.ones_like(expert_ids_btk, dtype=torch.bool))[..., :-1]
    empty_bt1 = stored_btv.all(-1, keepdim=True)
    # An all -inf row has no finite gradient: give it one token and replace the result below.
    masked_btv = logprobs_btv.masked_fill(stored_btv & ~empty_bt1, -torch.inf)
    tail_bt1 = masked_btv.logsumexp(-1, keepdim=True)
    floor = torch.finfo(logprobs_btv.dtype).min / 4
    return torch.cat([gathered_btk, tail_bt1.masked_fill(empty_bt1, floor)], dim=-1)


def make_objective_batch(
    rows: Sequence[FeedbackRow],
    group_ids: Sequence[int],
    logits_btv: Tensor,
    response_mask_bt: Tensor,
    response_ids_bt: Tensor,
) -> ObjectiveBatch:
    """The batch an objective reads; log-probabilities are computed in float32."""
    device = logits_btv.device
    logprobs_btv = torch.log_softmax(logits_btv.float(), dim=-1)
    shape = response_ids_bt.shape
    ids_btk, expert_btk = _expert_buckets(rows, shape[1], logits_btv.shape[-1])
    sampled_btk = ids_btk == response_ids_bt[..., None].cpu()
    tail_bucket = ids_btk.shape[-1]
    sampled_buckets_bt = torch.where(sampled_btk.any(-1), sampled_btk.int().argmax(-1), tail_bucket)
    return ObjectiveBatch(
        student_bucket_logprobs_btk=bucket_logprobs(logprobs_btv, ids_btk.to(device)),
        expert_bucket_logprobs_btk=expert_btk.to(device),
        sampled_logprobs_bt=logprobs_btv.gather(-1, response_ids_bt[..., None]).squeeze(-1),
        behaviour_logprobs_bt=_padded([row.behaviour_logprobs_t for row in rows], shape[1]).to(
            device
        ),
        response_mask_bt=response_mask_bt,
        expert_mask_b=torch.tensor([row.has_expert for row in rows], device=device),
        rewards_b=torch.tensor([row.reward for row in rows], device=device),
        group_ids_b=torch.tensor(group_ids, device=device),
        sampled_buckets_bt=sampled_buckets_bt.to(device),
        by_expert_b=torch.tensor([row.by_expert for row in rows], device=device),
    )


def _expert_buckets(
    rows: Sequence[FeedbackRow], length: int, vocabulary_size: int
) -> tuple[Tensor, Tensor]:
    """ids [B, T, K] padded with the vocabulary's size; log-mass [B, T, K + 1] padded with -inf."""
    width = max([1, *(int(row.expert_counts_t.max()) for row in rows if row.has_expert)])
    ids_btk = np.full((len(rows), length, width), vocabulary_size, dtype=np.int64)
    logprobs_btk = np.full((len(rows), length, width + 1), -np.inf, dtype=np.float32)
    for b, row in enumerate(rows):
        if not row.has_expert:
            continue
        stored_tk = np.arange(width) < row.expert_counts_t[:, None]
        positions_t = slice(0, len(row.expert_counts_t))
        ids_btk[b, positions_t][stored_tk] = row.expert_ids
        logprobs_btk[b, positions_t, :-1][stored_tk] = row.expert_logprobs
        logprobs_btk[b, positions_t, -1] = row.expert_tail_logprobs_t
    return torch.from_numpy(ids_btk), torch.from_numpy(logprobs_btk)


def _padded(rows: Sequence[np.ndarray], length: int) -> Tensor:
    padded_bt = np.zeros((len(rows), length), dtype=np.float32)
    for b, row in enumerate(rows):
        padded_bt[b, : len(row)] = row
    return torch.from_numpy(padded_bt)
