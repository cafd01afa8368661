"""DistIL's objective: match the expert at the student's states, and credit the way there.

docs/method.md#objective. Per rollout, with A_t = stop_gradient[C_t - b_t]:

    loss = (1/Z) * sum_t m_t * w_t * ( H(T_t, pi(.|s_t)) + weight * A_t * log pi(y_t|s_t) )
"""

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from distil_core.objectives.base import Objective, ObjectiveBatch, ObjectiveOutput
from distil_core.objectives.estimators.credit import (
    AdvantageNormalisation,
    Baseline,
    discounted_future_sum_bt,
    group_baseline_bt,
    scaled_advantage_bt,
)
from distil_core.objectives.estimators.divergences import entropy, forward_cross_entropy
from distil_core.objectives.estimators.matching import (
    MatchedDistributions,
    masked_importance_weights_bt,
    matched_distributions,
)
from distil_core.objectives.estimators.reductions import (
    DistillationOptions,
    distillation_diagnostics,
    masked_mean,
    reduce_loss,
)


class Options(DistillationOptions):
    """The defaults give the exact gradient of L with the least spread among those that are exact.

    In brackets: bias and spread of one pair of rollouts' gradient, relative to the true gradient,
    by enumeration (`python -m distil_core.theory`, table 1b). The defaults: (0, 0.99).
    """

    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """Of the future credit; 1 is the full gradient, 0 the local term only (0.43, 0.29)."""
    discount: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Of credit, for each token further on; 1 is exact, 0.5 has (0.12, 0.84): cheaper where
    responses are long."""
    horizon: Annotated[int, Field(ge=1)] | None = None
    """Tokens that credit looks ahead; null (to the end) is exact, 1 has (0.26, 0.72)."""
    cost: Literal["cross_entropy", "kl_divergence"] = "cross_entropy"
    """What credit sums. `kl_divergence` drops the expert's own entropy, so it is exact for another
    L, the sum of KL(T || pi) (0.15, 0.73 measured against this one)."""
    baseline: Baseline = "leave_one_out"
    """What credit is compared with, at the same position of the same prompt's rollouts.
    `leave_one_out` is exact and tighter than `none` (0, 1.11); `group_mean` scales the credit by
    (n-1)/n for n rollouts (0.21, 0.60 at n = 2)."""
    advantage_normalisation: AdvantageNormalisation = "none"
    """`standard_deviation` makes `weight` independent of the costs' scale and of response length,
    with another factor for each batch (0.25, 0.54)."""

    @property
    def compares_rollouts(self) -> bool:
        """A baseline is made of the prompt's other rollouts."""
        return self.baseline != "none"


class ForwardCrossEntropy:
    """Callable on an `ObjectiveBatch`; `DataError` where an expert's mass is not 1.

    A truncated response counts as ending at its last stored token: credit covers what was seen.
    Positions where the expert is silent cost nothing but still count as distance, which is measured
    in positions. What an environment wrote is no position at all.
    """

    def __init__(self, options: Options):
        self.options = options

    def __call__(self, batch: ObjectiveBatch) -> ObjectiveOutput:
        options = self.options
        matched = matched_distributions(batch)
        mask_bt = matched.token_mask_bt
        cross_entropies_bt = forward_cross_entropy(
            matched.expert_logprobs_btk, matched.student_logprobs_btk
        )
        expert_entropies_bt = entropy(matched.expert_logprobs_btk)
        credits_bt, advantages_bt = self._advantages_bt(
            batch, matched, cross_entropies_bt, expert_entropies_bt
        )
        weights_bt = masked_importance_weights_bt(batch, mask_bt, options.is_clip)
        surrogate_bt = (
            cross_entropies_bt + options.weight * advantages_bt * matched.sampled_logprobs_bt
        )
        diagnostics = {
            "cross_entropy": masked_mean(cross_entropies_bt, matched.local_mask_bt),
            "expert_entropy": masked_mean(expert_entropies_bt, matched.local_mask_bt),
            "future_credit": masked_mean(credits_bt, mask_bt),
            "advantage_magnitude": masked_mean(advantages_bt.abs(), mask_bt),
            **distillation_diagnostics(matched, weights_bt, options.is_clip),
        }
        return reduce_loss(
            weights_bt * surrogate_bt, mask_bt, options, diagnostics, matched.mass_errors_bt
        )

    def _advantages_bt(
        self,
        batch: ObjectiveBatch,
        matched: MatchedDistributions,
        cross_entropies_bt: Tensor,
        expert_entropies_bt: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """C_t and A_t, both [B, T] and without gradient; A_t is 0 on rows that the expert wrote."""
        options = self.options
        credited_bt = matched.token_mask_bt & batch.sampled_rows_b[:, None]
        costs_bt = cross_entropies_bt
        if options.cost == "kl_divergence":
            costs_bt = costs_bt - expert_entropies_bt
        credits_bt = self._credits_bt(batch, costs_bt)
        baseline_bt = self._baseline_bt(batch, credits_bt, credited_bt)
        advantages_bt = scaled_advantage_bt(
            credits_bt - baseline_bt, credited_bt, options.advantage_normalisation
        )
        return credits_bt, advantages_bt

    def _credits_bt(self, batch: ObjectiveBatch, costs_bt: Tensor) -> Tensor:
        options = self.options
        return discounted_future_sum_bt(costs_bt, options.discount, options.horizon)

    def _baseline_bt(
        self, batch: ObjectiveBatch, credits_bt: Tensor, credited_bt: Tensor
    ) -> Tensor:
        return group_baseline_bt(credits_bt, credited_bt, batch.group_ids_b, self.options.baseline)


def build(options: Options) -> Objective:
    """The objective, by name from the registry."""
    return ForwardCrossEntropy(options)
