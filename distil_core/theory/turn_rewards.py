"""Fact 6, of rewards: credit by turn has the gradient of all that is earned.

docs/method.md#fact-6. In the tool's problem of `theory.turns` the environment rewards the first
turn and the second, and the rollout has a reward besides. All are random numbers, the first turn's
a function of that turn. Pairs of rollouts are enumerated and `grpo`'s production gradients averaged
with their exact probabilities; its group mean holds the rollout itself, so that a pair's gradient
is half of it.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from distil_core.objectives import OBJECTIVES
from distil_core.objectives.base import Objective
from distil_core.theory.enumeration import Problem, group_gradients, relative_error
from distil_core.theory.table import Row, Table, at_most, unchecked
from distil_core.theory.turns import tool_world

Build = Callable[[dict[str, Any]], Objective]

TOLERANCE = 1e-10
_OPTIONS: dict[str, Any] = {"advantage_normalisation": "none", "loss_normalisation": "rollouts"}
_OF_GROUP_MEAN = 0.5
"""What a group mean leaves of the gradient of pairs, (n - 1) / n."""


def production(options: dict[str, Any]) -> Objective:
    """GRPO as training builds it, by name."""
    objective: Objective = OBJECTIVES.build("grpo", options)
    return objective


def verify(build: Build = production, seed: int = 0) -> Table:
    """The table. build: maps options to an objective, so that a test can pass a wrong one."""
    world, parameters_dv = rewarded_world(seed)
    total_p = earned_gradient(world, parameters_dv, 1.0)
    rows: list[Row] = []
    # As one reward of the rollout, which all of its tokens are credited with.
    summed = replace(world, rewards_n=_totals_n(world), turn_rewards_nk=None)
    for credit, shown in (("rollout", summed), ("turn", world)):
        objective = build(_OPTIONS | {"credit": credit})
        probabilities_g, gradients_gp = group_gradients(objective, shown, parameters_dv, 2)
        found_p = probabilities_g @ gradients_gp
        error = relative_error(found_p, -_OF_GROUP_MEAN * total_p)
        rows.append(at_most(f"credit: {credit}, of all that is earned", error, TOLERANCE))
        spread = (probabilities_g @ (gradients_gp - found_p).square().sum(1)).sqrt()
        spread = spread / torch.linalg.vector_norm(found_p)
        rows.append(unchecked(f"credit: {credit}: spread", float(spread)))
    options = _OPTIONS | {"credit": "turn", "turn_discount": 0.5}
    probabilities_g, gradients_gp = group_gradients(build(options), world, parameters_dv, 2)
    defined_p = -_OF_GROUP_MEAN * earned_gradient(world, parameters_dv, 0.5)
    error = relative_error(probabilities_g @ gradients_gp, defined_p)
    rows.append(at_most("turn_discount 0.5, against its definition", error, TOLERANCE))
    return Table(
        "6b. Rewards of turns",
        "Relative error of E[production gradient of grpo] against autograd of the expected sum of\n"
        "all rewards, of turns and rollout, in pairs, whose group mean leaves half of it; and one\n"
        "pair's spread, which depends on the rewards.",
        rows,
    )


def rewarded_world(seed: int) -> tuple[Problem, Tensor]:
    """The tool's problem with rewards, and the student's parameters."""
    world = tool_world(seed)
    generator = torch.Generator().manual_seed(seed + 1)
    num_rollouts = len(world.own.mask_nt)
    # Rollouts are ordered by their first turn, of which there are as many as of second turns.
    num_first = round(num_rollouts**0.5)
    first_n = torch.rand(num_first, generator=generator, dtype=torch.float64)
    second_n, rewards_n = torch.rand(2, num_rollouts, generator=generator, dtype=torch.float64)
    turn_rewards_nk = torch.stack([first_n.repeat_interleave(num_first), second_n], dim=1)
    own = replace(world.own, rewards_n=rewards_n, turn_rewards_nk=turn_rewards_nk)
    return own, world.parameters_dv


def earned_gradient(world: Problem, parameters_dv: Tensor, discount: float) -> Tensor:
    """The expectation of the sum over turns k of grad log pi(turn k) G_k, with G_k as
    docs/method.md#turns writes it; at discount 1 the gradient of the expected sum of all rewards;
    [P]."""
    assert world.turns_nt is not None
    assert world.turn_rewards_nk is not None
    assert world.rewards_n is not None
    leaf_dv = parameters_dv.detach().requires_grad_(True)
    logprobs_sv = world.student_logprobs_sv(leaf_dv)
    probabilities_n = world.sequence_logprobs_n(logprobs_sv).exp()
    if discount == 1:
        earned = (probabilities_n * _totals_n(world)).sum()
        return torch.autograd.grad(earned, leaf_dv)[0].flatten()
    second_n = world.turn_rewards_nk[:, 1] + world.rewards_n
    first_n = world.turn_rewards_nk[:, 0] + discount * second_n
    credits_nt = torch.where(world.turns_nt == 0, first_n[:, None], second_n[:, None])
    chosen_nt = torch.where(world.mask_nt, logprobs_sv[world.states_nt, world.tokens_nt], 0.0)
    surrogate = (probabilities_n.detach() * (credits_nt * chosen_nt).sum(1)).sum()
    return torch.autograd.grad(surrogate, leaf_dv)[0].flatten()


def _totals_n(world: Problem) -> Tensor:
    assert world.turn_rewards_nk is not None
    assert world.rewards_n is not None
    return world.turn_rewards_nk.sum(1) + world.rewards_n
