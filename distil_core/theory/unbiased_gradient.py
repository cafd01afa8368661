"""Fact 1: the expectation of the production estimator is the gradient of L; and what options cost.

docs/method.md#fact-1. Every sequence (or every group of rollouts) is put through the production
objective, and the gradients are averaged with their exact probabilities.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from distil_core.objectives import OBJECTIVES
from distil_core.objectives.base import Objective
from distil_core.theory.enumeration import (
    Cost,
    exact_gradient,
    group_gradients,
    random_problem,
    relative_error,
)
from distil_core.theory.table import Row, Table, at_least, at_most, equal, unchecked

Build = Callable[[dict[str, Any]], Objective]

TOLERANCE = 1e-10


def production(options: dict[str, Any]) -> Objective:
    """The forward cross-entropy objective as training builds it, by name."""
    objective: Objective = OBJECTIVES.build("forward_cross_entropy", options)
    return objective


def verify(build: Build = production, seed: int = 0) -> Table:
    """The table of fact 1. build: maps options to an objective, so that a test can pass a wrong
    one."""
    return Table(
        "1. Unbiased gradient",
        "Relative error of E[production gradient] against autograd of\n"
        "L = sum_y pi(y) sum_t H(T_t, pi(.|s_t)), every sequence enumerated.",
        [*_single_rows(build, seed), *_group_rows(build, seed), *_group_mean_rows(build, seed)],
    )


def _single_rows(build: Build, seed: int) -> list[Row]:
    """Rollouts one at a time, where no baseline is possible."""

    def error(options: dict[str, Any], cost: Cost = "cross_entropy", **kind: Any) -> float:
        world, parameters_dv = random_problem(seed, **kind)
        objective = build({"baseline": "none", "cost": cost, **options})
        probabilities_g, gradients_gp = group_gradients(objective, world, parameters_dv, 1)
        return relative_error(
            probabilities_g @ gradients_gp, exact_gradient(world, parameters_dv, cost)
        )

    return [
        at_most("no baseline", error({}), TOLERANCE),
        at_most("no baseline, fixed length", error({}, end_token=None), TOLERANCE),
        at_most("no baseline, top-1 + tail", error({}, top_k=1), TOLERANCE),
        at_most("no baseline, cost KL(T || pi)", error({}, "kl_divergence"), TOLERANCE),
        at_least("weight = 0 (local only) is wrong by", error({"weight": 0.0}), 0.01),
        at_least("horizon = 1 is wrong by", error({"horizon": 1}), 1e-3),
        at_least("discount = 0.5 is wrong by", error({"discount": 0.5}), 1e-3),
    ]


def _group_rows(build: Build, seed: int) -> list[Row]:
    """Pairs of rollouts of one prompt, of any lengths."""
    world, parameters_dv = random_problem(seed)
    truth_p = exact_gradient(world, parameters_dv)

    def expectation(options: dict[str, Any]) -> Tensor:
        probabilities_g, gradients_gp = group_gradients(build(options), world, parameters_dv, 2)
        return probabilities_g @ gradients_gp

    without_p = expectation({"baseline": "none"})
    left_out_p = expectation({"baseline": "leave_one_out"})
    return [
        at_most("default options, pairs", relative_error(expectation({}), truth_p), TOLERANCE),
        at_most("leave_one_out, pairs", relative_error(left_out_p, truth_p), TOLERANCE),
        at_most(
            "leave_one_out's own effect in expectation",
            relative_error(left_out_p, without_p),
            TOLERANCE,
        ),
        unchecked(
            "loss_normalisation = tokens, pairs: off L's direction by (1 - cosine)",
            _cosine_distance(expectation({"loss_normalisation": "tokens"}), truth_p),
        ),
    ]


def _group_mean_rows(build: Build, seed: int) -> list[Row]:
    """A mean that includes the row itself scales the credit by (n - 1) / n exactly."""
    world, parameters_dv = random_problem(seed, num_tokens=2, max_length=2, end_token=None)
    truth_p = exact_gradient(world, parameters_dv)
    rows = []
    for size in (2, 3):

        def expectation(options: dict[str, Any], size: int = size) -> Tensor:
            probabilities_g, gradients_gp = group_gradients(
                build(options), world, parameters_dv, size
            )
            return probabilities_g @ gradients_gp

        local_p = expectation({"weight": 0.0})
        credit_p = expectation({"baseline": "group_mean"}) - local_p
        full_credit_p = truth_p - local_p
        scale = float(credit_p @ full_credit_p / (full_credit_p @ full_credit_p))
        rows += [
            equal(f"group_mean, groups of {size}: credit scaled by", scale, (size - 1) / size),
            at_most(
                f"group_mean, groups of {size}: error after undoing it",
                relative_error(credit_p * size / (size - 1), full_credit_p),
                TOLERANCE,
            ),
        ]
    return rows


def _cosine_distance(found_p: Tensor, expected_p: Tensor) -> float:
    return 1.0 - float(torch.nn.functional.cosine_similarity(found_p, expected_p, dim=0))
