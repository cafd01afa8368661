"""A wrong forward cross-entropy is caught, one mutation of its source at a time."""

from collections.abc import Callable

import pytest
from mutation import (
    Mutation,
    expert_rows_hold,
    fact_1_holds,
    fact_2_holds,
    forward_holds,
    others_hold,
    renormalises,
)

from distil_core.objectives import (
    base,
    forward_cross_entropy,
)
from distil_core.objectives.estimators import credit, divergences, matching, reductions

_FCE = forward_cross_entropy.ForwardCrossEntropy

MUTATIONS = [
    Mutation(
        "local term's sign",
        fact_1_holds,
        divergences.forward_cross_entropy,
        "return -(expert_mass",
        "return (expert_mass",
    ),
    Mutation(
        "expert and student exchanged",
        fact_1_holds,
        _FCE.__call__,
        "matched.expert_logprobs_btk, matched.student_logprobs_btk",
        "matched.student_logprobs_btk, matched.expert_logprobs_btk.clamp(min=-30)",
    ),
    Mutation(
        "credit dropped",
        fact_1_holds,
        _FCE.__call__,
        " + options.weight * advantages_bt * matched.sampled_logprobs_bt",
        "",
    ),
    Mutation("credit's sign", fact_1_holds, _FCE.__call__, "+ options.weight", "- options.weight"),
    Mutation(
        "credit without gradient",
        fact_1_holds,
        _FCE.__call__,
        "* matched.sampled_logprobs_bt",
        "* matched.sampled_logprobs_bt.detach()",
    ),
    Mutation(
        "credit for the past",
        fact_1_holds,
        credit.discounted_future_sum_bt,
        "costs_bt.detach()",
        "costs_bt.detach().flip(1)",
    ),
    Mutation(
        "credit starts one late",
        fact_1_holds,
        credit.discounted_future_sum_bt,
        "_later_bt(costs_bt.detach(), 1)",
        "_later_bt(costs_bt.detach(), 2)",
    ),
    Mutation(
        "left-out row put back in",
        fact_1_holds,
        credit.group_baseline_bt,
        "members_bb & ~itself_bb",
        "members_bb",
    ),
    Mutation(
        "lone row's credit dropped",
        fact_1_holds,
        credit.group_baseline_bt,
        "sums_bt / counts_bt.clamp(min=1.0)",
        "(sums_bt / counts_bt.clamp(min=1.0)).where(counts_bt > 0, values_bt.double())",
    ),
    Mutation(
        "cost ignores the expert's entropy",
        fact_1_holds,
        _FCE._advantages_bt,
        "costs_bt = costs_bt - expert_entropies_bt",
        "pass",
    ),
    Mutation(
        "credit starts with the own cost",
        forward_holds,
        credit.discounted_future_sum_bt,
        "_later_bt(costs_bt.detach(), 1)",
        "costs_bt.detach()",
    ),
    Mutation(
        "discount one too many",
        forward_holds,
        credit.discounted_future_sum_bt,
        "discount**window_size",
        "discount**(window_size + 1)",
    ),
    Mutation(
        "horizon one too far",
        forward_holds,
        credit.discounted_future_sum_bt,
        "min(horizon, length)",
        "min(horizon + 1, length)",
    ),
    Mutation(
        "importance weight dropped",
        forward_holds,
        _FCE.__call__,
        "weights_bt * surrogate_bt",
        "surrogate_bt",
    ),
    Mutation(
        "rows without an expert train",
        forward_holds,
        matching.matched_distributions,
        "batch.response_mask_bt & batch.expert_mask_b[:, None]",
        "batch.response_mask_bt",
    ),
    Mutation(
        "scale over all positions",
        forward_holds,
        credit.scaled_advantage_bt,
        "usable_bt = mask_bt & ",
        "usable_bt = ",
    ),
    Mutation(
        "credit lets a gradient through",
        fact_1_holds,
        credit.discounted_future_sum_bt,
        "costs_bt.detach()",
        "costs_bt",
    ),
    Mutation(
        "importance weight lets a gradient through",
        fact_1_holds,
        base.importance_weights_bt,
        "batch.sampled_logprobs_bt.detach()",
        "batch.sampled_logprobs_bt",
    ),
    Mutation(
        "tail ignored",
        fact_1_holds,
        divergences.forward_cross_entropy,
        "(expert_mass * needed_logprobs).sum(-1)",
        "(expert_mass * needed_logprobs)[..., :-1].sum(-1)",
    ),
    Mutation(
        "divided by responses where tokens are meant",
        forward_holds,
        reductions._normaliser,
        'options.loss_normalisation == "rollouts"',
        'options.loss_normalisation != "constant"',
    ),
    Mutation(
        "discount of joined windows one too many",
        forward_holds,
        credit.discounted_future_sum_bt,
        "discount**covered",
        "discount**(covered + 1)",
    ),
    Mutation(
        "group mean over everyone",
        forward_holds,
        credit.group_baseline_bt,
        "group_ids_b[:, None] == group_ids_b[None, :]",
        "group_ids_b[:, None] >= group_ids_b.min()",
    ),
    Mutation(
        "baseline over rows that ended",
        forward_holds,
        credit.group_baseline_bt,
        "usable_bt = mask_bt & ",
        "usable_bt = ",
    ),
    Mutation(
        "importance clip removed",
        forward_holds,
        base.importance_weights_bt,
        "torch.clamp(ratio_bt, max=is_clip)",
        "ratio_bt",
    ),
    Mutation(
        "importance weight upside down",
        forward_holds,
        base.importance_weights_bt,
        "batch.sampled_logprobs_bt.detach() - batch.behaviour_logprobs_bt",
        "batch.behaviour_logprobs_bt - batch.sampled_logprobs_bt.detach()",
    ),
    Mutation(
        "response mask ignored",
        forward_holds,
        matching.matched_distributions,
        "token_mask_bt = batch.response_mask_bt & ",
        "token_mask_bt = torch.ones_like(batch.response_mask_bt) & ",
    ),
    Mutation(
        "rows of a silent expert train",
        forward_holds,
        matching.matched_distributions,
        "local_mask_bt.any(dim=1, keepdim=True)",
        "batch.expert_mask_b[:, None]",
    ),
    Mutation(
        "expert not renormalised",
        renormalises,
        matching.matched_distributions,
        "expert_btk - torch.log(mass_bt)[..., None]",
        "expert_btk",
    ),
    Mutation(
        "a row of the expert's gets credit",
        expert_rows_hold,
        _FCE._advantages_bt,
        "matched.token_mask_bt & batch.sampled_rows_b[:, None]",
        "matched.token_mask_bt",
    ),
    Mutation(
        "a row of the expert's is weighted by the sampler",
        expert_rows_hold,
        base.importance_weights_bt,
        "torch.where(batch.sampled_rows_b[:, None], weights_bt, 1.0)",
        "weights_bt",
    ),
]


@pytest.mark.parametrize(
    "holds",
    [fact_1_holds, fact_2_holds, forward_holds, others_hold, renormalises, expert_rows_hold],
)
def test_checkers_pass_on_production(holds: Callable[[], bool]) -> None:
    assert holds()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_mutation_is_caught(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation.require_caught(monkeypatch)
