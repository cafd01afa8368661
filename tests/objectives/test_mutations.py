"""Wrong objectives are caught: production source is changed one snippet at a time.

Each mutation rewrites one function of `distil_core.objectives` in place for one test, and the
named checker, which passes on the original, must then fail.
"""

import inspect
import textwrap
from collections.abc import Callable
from types import FunctionType
from typing import Any

import pytest
from naive_reference import Naive
from objective_batches import random_batch

from distil_core.objectives import (
    OBJECTIVES,
    _credit,
    _divergences,
    _matched,
    forward_cross_entropy,
    jensen_shannon,
    reverse_kl,
)
from distil_core.theory import monotonic_improvement, unbiased_gradient

_FCE = forward_cross_entropy.ForwardCrossEntropy


def fact_1_holds() -> bool:
    return unbiased_gradient.verify().passed


def fact_2_holds() -> bool:
    return monotonic_improvement.verify(num_random=200).passed


def formula_holds() -> bool:
    """Production against the loop over METHOD section 2, at options where every term acts."""
    options = {
        "discount": 0.7,
        "horizon": 2,
        "cost": "kl_divergence",
        "baseline": "leave_one_out",
        "advantage_normalisation": "standard_deviation",
        "is_clip": 1.5,
        "loss_normalisation": "tokens",
    }
    resolved: dict[str, Any] = OBJECTIVES.options("forward_cross_entropy", options).model_dump()
    objective = OBJECTIVES.build("forward_cross_entropy", options)
    return all(
        abs(objective(batch).loss.item() - Naive(batch).forward_cross_entropy(resolved)) < 1e-9
        for batch in (random_batch(seed, rows=8) for seed in range(5))
    )


MUTATIONS: list[tuple[str, Callable[[], bool], Any, str, str]] = [
    (
        "local term's sign",
        fact_1_holds,
        _divergences.forward_cross_entropy,
        "return -(expert_mass",
        "return (expert_mass",
    ),
    (
        "expert and student exchanged",
        fact_1_holds,
        _FCE.__call__,
        "matched.expert_logprobs_btk, matched.student_logprobs_btk",
        "matched.student_logprobs_btk, matched.expert_logprobs_btk.clamp(min=-30)",
    ),
    (
        "credit dropped",
        fact_1_holds,
        _FCE.__call__,
        " + options.weight * advantages_bt * matched.sampled_logprobs_bt",
        "",
    ),
    ("credit's sign", fact_1_holds, _FCE.__call__, "+ options.weight", "- options.weight"),
    (
        "credit without gradient",
        fact_1_holds,
        _FCE.__call__,
        "* matched.sampled_logprobs_bt",
        "* matched.sampled_logprobs_bt.detach()",
    ),
    (
        "credit for the past",
        fact_1_holds,
        _credit.discounted_future_sum_bt,
        "costs_bt.detach()",
        "costs_bt.detach().flip(1)",
    ),
    (
        "credit starts one late",
        fact_1_holds,
        _credit.discounted_future_sum_bt,
        "_later_bt(costs_bt.detach(), 1)",
        "_later_bt(costs_bt.detach(), 2)",
    ),
    (
        "left-out row put back in",
        fact_1_holds,
        _credit.group_baseline_bt,
        "members_bb & ~itself_bb",
        "members_bb",
    ),
    (
        "lone row's credit dropped",
        fact_1_holds,
        _credit.group_baseline_bt,
        "sums_bt / counts_bt.clamp(min=1.0)",
        "(sums_bt / counts_bt.clamp(min=1.0)).where(counts_bt > 0, values_bt.double())",
    ),
    (
        "cost ignores the expert's entropy",
        fact_1_holds,
        _FCE._advantages_bt,
        "costs_bt = costs_bt - expert_entropies_bt",
        "pass",
    ),
    (
        "credit starts with the own cost",
        formula_holds,
        _credit.discounted_future_sum_bt,
        "_later_bt(costs_bt.detach(), 1)",
        "costs_bt.detach()",
    ),
    (
        "discount one too many",
        formula_holds,
        _credit.discounted_future_sum_bt,
        "discount**window_size",
        "discount**(window_size + 1)",
    ),
    (
        "horizon one too far",
        formula_holds,
        _credit.discounted_future_sum_bt,
        "min(horizon, length)",
        "min(horizon + 1, length)",
    ),
    (
        "importance weight dropped",
        formula_holds,
        _FCE.__call__,
        "weights_bt * surrogate_bt",
        "surrogate_bt",
    ),
    (
        "rows without an expert train",
        formula_holds,
        _matched.matched_distributions,
        "batch.response_mask_bt & batch.expert_mask_b[:, None]",
        "batch.response_mask_bt",
    ),
    (
        "scale over all positions",
        formula_holds,
        _credit.scaled_advantage_bt,
        "usable_bt = mask_bt & ",
        "usable_bt = ",
    ),
    (
        "reverse KL's arguments exchanged",
        fact_2_holds,
        reverse_kl.ReverseKL._divergences_bt,
        "student_logprobs=matched.student_logprobs_btk,\n        "
        "expert_logprobs=matched.expert_logprobs_btk",
        "student_logprobs=matched.expert_logprobs_btk.clamp(min=-30),\n        "
        "expert_logprobs=matched.student_logprobs_btk",
    ),
    (
        "Jensen-Shannon's expert side dropped",
        fact_2_holds,
        _divergences.jensen_shannon_divergence,
        "expert_weight * expert_side + ",
        "",
    ),
    (
        "Jensen-Shannon against the expert, not the mixture",
        fact_2_holds,
        _divergences.jensen_shannon_divergence,
        "(readable_logprobs - mixture)",
        "(readable_logprobs - readable_expert)",
    ),
    (
        "Jensen-Shannon's weight ignored",
        fact_2_holds,
        jensen_shannon.JensenShannon._divergences_bt,
        "expert_weight=self.options.expert_weight",
        "expert_weight=0.7",
    ),
]


@pytest.mark.parametrize("checker", [fact_1_holds, fact_2_holds, formula_holds])
def test_checkers_pass_on_production(checker: Callable[[], bool]) -> None:
    assert checker()


@pytest.mark.parametrize(
    ("checker", "function", "original", "mutant"),
    [mutation[1:] for mutation in MUTATIONS],
    ids=[mutation[0] for mutation in MUTATIONS],
)
def test_mutation_is_caught(
    checker: Callable[[], bool],
    function: FunctionType,
    original: str,
    mutant: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(original) == 1, "the mutated snippet must be there, once"
    namespace: dict[str, Any] = {}
    exec(source.replace(original, mutant), function.__globals__, namespace)
    # In place, so that every module that imported the function runs the mutant.
    monkeypatch.setattr(function, "__code__", namespace[function.__name__].__code__)
    assert not checker()
