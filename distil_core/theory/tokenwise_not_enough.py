"""Fact 3: matching tokens locally can stop at a worse point than the full gradient reaches.

docs/method.md#fact-3. A response has two tokens, each one of six. The first token, i, leads to
state i; there the expert always plays i, and playing it is a success. The student cannot tell
states 0 to 4 apart (they share parameters), so it mostly fails there, while in state 5 it can match
the expert. The expert, which succeeds everywhere, chooses the first token with probabilities (.18,
.18, .18, .18, .18, .1). Local matching copies these and stays; the full gradient learns to avoid
the states in which the student fails.
"""

import torch
from torch import Tensor

from distil_core.objectives import OBJECTIVES
from distil_core.theory.enumeration import (
    Problem,
    exact_gradient,
    exact_loss,
    objective_batch,
    problem,
)
from distil_core.theory.table import Row, Table, at_least, at_most, equal, unchecked

_FIRST_MOVE = (0.18, 0.18, 0.18, 0.18, 0.18, 0.1)
_STEPS, _RATE = 400, 1.0


def verify() -> Table:
    """The table of fact 3: where descent with weight 0 and with weight 1 stops, and its value
    there."""
    # Rows: the first state, states 0 to 4 (one shared feature), state 5.
    world = _world(torch.eye(3, dtype=torch.float64)[[0, 1, 1, 1, 1, 1, 2]])
    generator = torch.Generator().manual_seed(0)
    start_dv = 0.01 * torch.randn(3, 6, generator=generator, dtype=torch.float64)
    local_dv, full_dv = (_descend(world, start_dv, weight) for weight in (0.0, 1.0))
    return Table(
        "3. Tokenwise matching is not enough",
        "Two tokens; in state i the expert plays i; the student shares its parameters between\n"
        "states 0 to 4. Gradient descent on the exact expected production gradient, same start.",
        [
            *_end_rows(world, local_dv, full_dv),
            *_unrestricted_rows(),
        ],
    )


def _end_rows(world: Problem, local_dv: Tensor, full_dv: Tensor) -> list[Row]:
    local_loss, full_loss = (float(exact_loss(world, end)) for end in (local_dv, full_dv))
    local_success, full_success = (success(world, end) for end in (local_dv, full_dv))
    first_a = world.student_logprobs_sv(local_dv)[0].exp()
    distance = float((first_a - torch.tensor(_FIRST_MOVE, dtype=torch.float64)).abs().max())
    return [
        at_most("local only: |its own gradient| at the end", _slope(world, local_dv, 0.0), 1e-2),
        at_most("local only: first move's distance from the expert's", distance, 1e-2),
        at_least("local only: |grad L| there", _slope(world, local_dv, 1.0), 0.1),
        at_most("full: |grad L| at the end", _slope(world, full_dv, 1.0), 1e-2),
        at_least("local only: L", local_loss, full_loss + 0.1),
        at_least("full: L (at least the first move's entropy)", full_loss, _first_move_entropy()),
        unchecked("local only: success", local_success),
        at_least("full: success", full_success, local_success + 0.2),
    ]


def _unrestricted_rows() -> list[Row]:
    """The control: a student that can match the expert everywhere has nothing to gain."""
    world = _world(None)
    expert_dv = world.expert_logprobs_sv.clamp(min=-40.0)
    gradient_p = exact_gradient(world, expert_dv, "kl_divergence")
    return [
        at_most(
            "without sharing, pi = T: |grad L| of the cost KL(T || pi)",
            float(torch.linalg.vector_norm(gradient_p)),
            1e-10,
        ),
        equal("without sharing, pi = T: success", success(world, expert_dv), 1.0),
    ]


def success(world: Problem, parameters_dv: Tensor) -> float:
    """Probability that the second token is the expert's."""
    sequence_probabilities_n = world.sequence_logprobs_n(
        world.student_logprobs_sv(parameters_dv)
    ).exp()
    succeeds_n = world.tokens_nt[:, 0] == world.tokens_nt[:, 1]
    return float(sequence_probabilities_n[succeeds_n].sum())


def _world(features_sd: Tensor | None) -> Problem:
    expert_sv = torch.cat([torch.tensor([_FIRST_MOVE], dtype=torch.float64), torch.eye(6).double()])
    return problem(features_sd, expert_sv.log(), max_length=2)


def _first_move_entropy() -> float:
    first_a = torch.tensor(_FIRST_MOVE, dtype=torch.float64)
    return float(-(first_a * first_a.log()).sum())


def _descend(world: Problem, start_dv: Tensor, weight: float) -> Tensor:
    parameters_dv = start_dv
    for _ in range(_STEPS):
        parameters_dv = parameters_dv - _RATE * _expected_gradient(world, parameters_dv, weight)
    return parameters_dv


def _slope(world: Problem, parameters_dv: Tensor, weight: float) -> float:
    return float(torch.linalg.vector_norm(_expected_gradient(world, parameters_dv, weight)))


def _expected_gradient(world: Problem, parameters_dv: Tensor, weight: float) -> Tensor:
    """The expectation of the production gradient, from one batch of all sequences.

    Each row's importance weight is set to its probability, which works as the loss is linear in it.
    """
    leaf_dv = parameters_dv.detach().requires_grad_(True)
    logprobs_sv = world.student_logprobs_sv(leaf_dv)
    sequence_logprobs_n = world.sequence_logprobs_n(logprobs_sv).detach()
    sampled_nt = logprobs_sv.detach()[world.states_nt, world.tokens_nt]
    rows_n = torch.arange(len(sequence_logprobs_n))
    batch = objective_batch(
        world, logprobs_sv, rows_n, rows_n, sampled_nt - sequence_logprobs_n[:, None]
    )
    objective = OBJECTIVES.build(
        "forward_cross_entropy",
        {
            "weight": weight,
            "baseline": "none",
            "loss_normalisation": "constant",
            "loss_constant": 1.0,
        },
    )
    return torch.autograd.grad(objective(batch).loss, leaf_dv)[0]
