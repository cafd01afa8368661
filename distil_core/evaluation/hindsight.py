"""The loss of any policy on any iteration's feedback table.

docs/method.md#fact-5: learning from the tables as they come has no regret where the losses of
the policies that made the tables approach those of the best single policy in hindsight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from distil_core.config.models import TILED_HEAD_ABOVE
from distil_core.objectives.estimators.credit import discounted_future_sum_bt
from distil_core.objectives.estimators.divergences import entropy, forward_cross_entropy
from distil_core.objectives.estimators.matching import matched_distributions
from distil_core.policy.batching import LOGITS_AT_ONCE, vocabulary_size
from distil_core.training.feedback_rows import FeedbackRow, FeedbackRows
from distil_core.training.objective_batch import (
    expert_buckets,
    make_labels,
    make_objective_batch,
)
from distil_core.training.plain_head import has_plain_head
from distil_core.training.policy_tokens import policy_tokens
from distil_core.training.step_batch import collated
from distil_core.training.student_logprobs import is_tiled, student_logprobs

if TYPE_CHECKING:
    from transformers import PreTrainedModel


_TOKENS_AT_ONCE = 2**14


@dataclass(frozen=True)
class TokenCosts:
    """One rollout, at each of its T positions, in nats. disagreement_t: KL(T || pi), expert against
    student. future_credit_t: the sum of the disagreements still to come (discount 1). labelled_t:
    where the expert has a distribution; elsewhere the disagreement is 0."""

    disagreement_t: NDArray[np.float64]
    future_credit_t: NDArray[np.float64]
    labelled_t: NDArray[np.bool_]


@torch.inference_mode()
def token_costs(
    model: PreTrainedModel,
    rows: Sequence[FeedbackRow],
    batch_size: int = 128,
    tiled_above: int | None = TILED_HEAD_ABOVE,
) -> list[TokenCosts]:
    """The costs of each row's tokens under `model`; rows without an expert cost nothing.

    tiled_above: a vocabulary larger than this is read in tiles, as training does, where the
    model's head allows it. At most batch_size rows at once, fewer where they are long.
    """
    found: list[TokenCosts] = []
    if not rows:
        return found
    if is_tiled(model, tiled_above) and not has_plain_head(
        model, collated(rows[:1]).to(model.device)
    ):
        tiled_above = None
    size = _rows_at_once(model, rows, batch_size, tiled_above)
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        tokens = collated(part).to(model.device)
        policys = policy_tokens([row.turns for row in part], tokens)
        trained = (policys or tokens).to(torch.device("cpu"))
        buckets = expert_buckets(part, trained.response_ids_bt.shape[1], vocabulary_size(model))
        labels = make_labels(
            part,
            list(range(len(part))),
            buckets,
            trained.response_mask_bt,
            trained.response_ids_bt,
        )
        student = student_logprobs(
            model, tokens, buckets[0], tiled_above=tiled_above, policys=policys
        )
        batch = make_objective_batch(labels, student)
        matched = matched_distributions(batch)
        experts_btk = matched.expert_logprobs_btk
        costs_bt = forward_cross_entropy(experts_btk, matched.student_logprobs_btk)
        costs_bt = (costs_bt - entropy(experts_btk)).masked_fill(~matched.local_mask_bt, 0.0)
        credits_bt = discounted_future_sum_bt(costs_bt, 1.0, None)
        for b, row in enumerate(part):
            length = len(row.response_ids_t)
            found.append(
                TokenCosts(
                    costs_bt[b, :length].double().cpu().numpy(),
                    credits_bt[b, :length].double().cpu().numpy(),
                    matched.local_mask_bt[b, :length].cpu().numpy(),
                )
            )
    return found


def _rows_at_once(
    model: PreTrainedModel, rows: Sequence[FeedbackRow], batch_size: int, tiled_above: int | None
) -> int:
    longest = max(len(row.read_ids) for row in rows)
    if is_tiled(model, tiled_above):
        num_rows = _TOKENS_AT_ONCE // (max(len(row.context_ids) for row in rows) + longest)
    else:
        num_rows = LOGITS_AT_ONCE // (longest * vocabulary_size(model))
    return max(1, min(batch_size, num_rows))


def table_loss(
    model: PreTrainedModel,
    table: FeedbackRows,
    max_rows: int | None = None,
    tiled_above: int | None = TILED_HEAD_ABOVE,
) -> float:
    """Mean KL(T || pi) in nats over the positions that the expert labelled, on the student's own
    rollouts. It is the loss that training lowers, minus the expert's entropy, which no policy
    changes.

    max_rows: use this many rollouts from the start of the table; None for all. tiled_above: see
    `token_costs`. 0 where the expert labelled nothing.
    """
    num_rows = len(table) if max_rows is None else min(max_rows, len(table))
    rows = [row for row in map(table.row, range(num_rows)) if row.has_expert and not row.by_expert]
    costs = token_costs(model, rows, tiled_above=tiled_above)
    num_labelled = sum(int(cost.labelled_t.sum()) for cost in costs)
    return float(sum(cost.disagreement_t.sum() for cost in costs)) / max(1, num_labelled)


def average_regrets(losses_ji: NDArray[np.float64], parents: Sequence[int]) -> list[float]:
    """After each iteration n: the mean loss of the policies that made tables 1 .. n, each on its
    own table, minus the mean loss of the best single checkpoint in hindsight.

    losses_ji: of checkpoint j = 0 .. N on table i = 1 .. N. parents: the checkpoint that made each
    table, which is an older one than the last where a gate handed it over. The best checkpoint is
    sought among all of 0 .. N, later ones included. Negative where no single checkpoint does as
    well on all tables as each policy on its own.
    """
    met_i = losses_ji[list(parents), np.arange(losses_ji.shape[1])]
    return [
        float(met_i[:n].mean() - losses_ji[:, :n].mean(axis=1).min())
        for n in range(1, len(met_i) + 1)
    ]
