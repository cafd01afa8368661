"""Distillation at selected decisions: where the expert is listened to (`train.decisions`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from distil_core.config.models import DecisionParams, TrainParams
from distil_core.errors import TrainingError
from distil_core.objectives.estimators.divergences import entropy, forward_cross_entropy
from distil_core.objectives.estimators.matching import matched_distributions
from distil_core.seeds import generator
from distil_core.training.feedback_rows import FeedbackRows
from distil_core.training.objective_batch import RowLabels, make_objective_batch
from distil_core.training.step_batch import StepBatch


@dataclass(frozen=True)
class Decisions:
    """Which tokens keep their expert. Each rollout is decided on its own, so that neither batches
    nor micro-batches change it.

    seed: of a training run; with a rollout's id it decides what is drawn at random. num_ids: of the
    vocabulary; as an id it marks padding.
    """

    params: DecisionParams
    seed: int
    num_ids: int

    def applied(
        self, batch: StepBatch, student: tuple[Tensor, ...]
    ) -> tuple[RowLabels, dict[str, float]]:
        """The batch's labels, with an expert that is silent at all other tokens, and the share that
        is left of those at which it was not. student: from `student_logprobs`, of all rows."""
        labels = batch.labels
        values = tuple(one.detach() for one in student)
        matched = matched_distributions(make_objective_batch(labels, values))
        said_bt = matched.local_mask_bt
        if self.params.select == "marked":
            marked_bt = batch.marked_bt
            kept_bt = torch.zeros_like(said_bt) if marked_bt is None else marked_bt.to(said_bt)
            kept_bt = kept_bt & said_bt
        else:
            if self.params.select == "disagreement":
                expert_btk = matched.expert_logprobs_btk
                scores_bt = forward_cross_entropy(expert_btk, matched.student_logprobs_btk)
                scores_bt = scores_bt - entropy(expert_btk)
            elif self.params.select == "entropy":
                scores_bt = self._entropies_bt(batch, values[0])
            else:
                scores_bt = self._drawn_bt(batch.rollout_ids, said_bt)
            kept_bt = best_bt(scores_bt, said_bt, self.params.share or 1.0)
        expert_btk = labels.expert_bucket_logprobs_btk.to(kept_bt.device)
        silenced_btk = torch.where(kept_bt[..., None], expert_btk, -torch.inf)
        share = (kept_bt.sum() / said_bt.sum().clamp(min=1)).item()
        return replace(labels, expert_bucket_logprobs_btk=silenced_btk), {
            "decision_fraction": share
        }

    def _entropies_bt(self, batch: StepBatch, student_btk: Tensor) -> Tensor:
        ids_btk = torch.cat([part.expert_ids_btk for part in batch.parts]).to(student_btk.device)
        padding_btk = torch.nn.functional.pad(ids_btk == self.num_ids, (0, 1), value=False)
        return entropy(student_btk.masked_fill(padding_btk, -torch.inf))

    def _drawn_bt(self, rollout_ids: Sequence[str], said_bt: Tensor) -> Tensor:
        """A number for each token, by its rollout and its place there alone."""
        length = said_bt.shape[1]
        drawn = [generator(self.seed, "decisions", name).random(length) for name in rollout_ids]
        return torch.from_numpy(np.stack(drawn)).to(said_bt.device)


def make_decisions(
    rows: FeedbackRows, params: TrainParams, seed: int, num_ids: int
) -> Decisions | None:
    """None where the expert is listened to everywhere. Raises `TrainingError` where it never would
    be, since no turn is marked."""
    if params.decisions is None:
        return None
    if params.decisions.select == "marked" and not rows.any_marked:
        raise TrainingError(
            f"train.decisions.select marked: no turn of the {len(rows)} rollouts is marked, so "
            "that nothing would be matched: does the environment mark turns? Or choose another "
            "selection"
        )
    return Decisions(params.decisions, seed, num_ids)


def best_bt(scores_bt: Tensor, mask_bt: Tensor, share: float) -> Tensor:
    """The share of each row's masked places that has the highest scores, rounded up; of equal ones
    the earlier. Bool [B, T]."""
    masked_bt = scores_bt.masked_fill(~mask_bt, -torch.inf)
    order_bt = masked_bt.argsort(dim=1, descending=True, stable=True)
    ranks_bt = order_bt.argsort(dim=1)
    counts = [
        # So that a tenth of ten is one.
        math.ceil(share * count - 1e-9)
        for count in mask_bt.sum(1).tolist()
    ]
    return mask_bt & (ranks_bt < torch.tensor(counts, device=mask_bt.device)[:, None])
