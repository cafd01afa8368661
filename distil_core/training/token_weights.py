"""How much each token of a batch counts in the gradient, whatever the objective.

An objective's gradient reaches the student through its log-probabilities at each token, each of
which is a term of that row and position alone. Scaling it there weights the term: the local one and
the credit's alike, with costs, baselines and divisors as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from distil_core.config.models import TrainParams
from distil_core.errors import TrainingError
from distil_core.training.feedback_rows import FeedbackRows
from distil_core.training.objective_batch import RowLabels


def kept_groups(rows: FeedbackRows, params: TrainParams) -> list[list[int]]:
    """The groups that `dropped_groups` leaves. Raises `TrainingError` where it leaves none."""
    kept = [group for group in rows.groups if not _is_dropped(rows, group, params.dropped_groups)]
    if not kept:
        raise TrainingError(
            f"train.dropped_groups {params.dropped_groups} leaves none of the {len(rows.groups)} "
            "prompts to train on: sample harder or easier ones, or drop none"
        )
    return kept


def _is_dropped(rows: FeedbackRows, group: Sequence[int], which: str) -> bool:
    if which == "none":
        return False
    rewards = rows.rewards(rows.sampled(group))
    if which == "all_correct":
        return bool((rewards == 1.0).all())
    are_equal = bool((rewards == rewards[:1]).all())
    return are_equal and (which == "equal_rewards" or not rows.any_expert(group))


def problem_weights(
    rows: FeedbackRows, groups: Sequence[Sequence[int]], params: TrainParams
) -> dict[int, float] | None:
    """The weight of each row of these groups; None where all count alike. Raises `TrainingError`
    where none would count."""
    if params.problem_weights == "equal":
        return None
    rates = [
        float(np.mean(rows.rewards(rows.sampled(group)), dtype=np.float64)) for group in groups
    ]
    deviations = [max(0.0, rate * (1 - rate)) ** 0.5 for rate in rates]
    mean = sum(deviations) / len(deviations)
    if not mean:
        raise TrainingError(
            f"train.problem_weights success_deviation: each of the {len(groups)} prompts is solved "
            "by all of its rollouts or by none, so that none counts: sample more rollouts of each, "
            "or set it to equal"
        )
    return {
        index: deviation / mean
        for group, deviation in zip(groups, deviations, strict=True)
        for index in group
    }


def token_weights(
    indices: Sequence[int],
    length: int,
    of_rows: dict[int, float] | None,
    half_life_tokens: float | None,
) -> Tensor | None:
    """The weights of rows and positions, float32 [B, T]; None where all count alike."""
    if of_rows is None and half_life_tokens is None:
        return None
    weights_b = torch.tensor([1.0 if of_rows is None else of_rows[index] for index in indices])
    positions_t = torch.arange(length, dtype=torch.float32)
    by_position_t = torch.exp2(-positions_t / (half_life_tokens or torch.inf))
    return weights_b[:, None] * by_position_t


def disagreements(
    labels: RowLabels, expert_ids_btk: Tensor, student_bucket_logprobs_btk: Tensor, num_ids: int
) -> tuple[Tensor, float]:
    """Where they disagree, bool [B, T], and its share of the trained positions where the expert
    says something. They do where the expert's likeliest stored token is not the student's likeliest
    one of these, or where the student alone gives more to all that is not stored.

    num_ids: of the vocabulary; as an id it marks padding.
    """
    student_btk = student_bucket_logprobs_btk.detach()
    device = student_btk.device
    expert_btk = labels.expert_bucket_logprobs_btk.to(device)
    padding_btk = expert_ids_btk.to(device) == num_ids
    chosen_bt1 = expert_btk[..., :-1].argmax(-1, keepdim=True)
    likeliest_bt1 = (
        student_btk[..., :-1].masked_fill(padding_btk, -torch.inf).argmax(-1, keepdim=True)
    )
    student_leaves_bt1 = student_btk[..., -1:] > student_btk.gather(-1, chosen_bt1)
    expert_stays_bt1 = expert_btk[..., -1:] <= expert_btk.gather(-1, chosen_bt1)
    differs_bt1 = (likeliest_bt1 != chosen_bt1) | (student_leaves_bt1 & expert_stays_bt1)
    labelled_bt = (labels.response_mask_bt & labels.expert_mask_b[:, None]).to(device)
    labelled_bt &= (expert_btk > -torch.inf).any(-1)
    differs_bt = differs_bt1.squeeze(-1) & labelled_bt
    return differs_bt, (differs_bt.sum() / labelled_bt.sum().clamp(min=1)).item()


def scale_gradients(student: Sequence[Tensor], weights_bt: Tensor) -> None:
    """Have the gradient that reaches each of the student's log-probabilities, [B, T] or [B, T, K],
    scaled by its token's weight."""
    for values in student:
        of_values = weights_bt if values.dim() == weights_bt.dim() else weights_bt[..., None]
        values.register_hook(partial(torch.mul, of_values.to(values.device, values.dtype)))
