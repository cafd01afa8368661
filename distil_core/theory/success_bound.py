"""Fact 4: forward cross-entropy raises a lower bound on the log-probability of success.

docs/method.md#fact-4: log pi(S) >= E_{y~T_S}[log pi(y)] + H(T_S), with T_S the expert restricted
to the success set S. The difference is KL(T_S || pi_S), and E_{y~T_S}[-log pi(y)] is the sum of
forward cross-entropies along T_S, so lowering those raises the bound.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from distil_core.objectives.estimators.divergences import forward_cross_entropy
from distil_core.theory.enumeration import Problem, random_problem
from distil_core.theory.table import Row, Table, at_least, at_most, unchecked

_SHOWN_STEPS = (0, 1, 3, 10)


@dataclass(frozen=True)
class Bound:
    """Both sides of the inequality and the difference between them, scalars with gradient."""

    log_success: Tensor
    lower_bound: Tensor
    divergence: Tensor


def verify(num_random: int = 100) -> Table:
    """The table of fact 4: the bound on random problems, then descent on one of them."""
    return Table(
        "4. Success bound",
        "S: the sequences whose tokens sum to 3. bound: E_{y~T_S}[log pi(y)] + H(T_S).\n"
        "Descent is on forward cross-entropy towards T_S, at its states.",
        [*_inequality_rows(num_random), *_chain_rule_rows(), *_descent_rows()],
    )


def bound(world: Problem, parameters_dv: Tensor) -> Bound:
    """log pi(S), its lower bound, and KL(T_S || pi_S)."""
    succeeds_n = _succeeds_n(world)
    student_n = world.sequence_logprobs_n(world.student_logprobs_sv(parameters_dv))[succeeds_n]
    expert_n = _expert_success_logprobs_n(world)[succeeds_n]
    log_success = torch.logsumexp(student_n, dim=0)
    entropy = forward_cross_entropy(expert_n, expert_n)
    lower_bound = entropy - forward_cross_entropy(expert_n, student_n)
    # Computed from the restricted distributions, independently of the two sides.
    restricted_n = student_n - log_success
    divergence = torch.special.xlogy(
        expert_n.exp(), torch.where(expert_n > -torch.inf, (expert_n - restricted_n).exp(), 1.0)
    ).sum()
    return Bound(log_success, lower_bound, divergence)


def _inequality_rows(number: int) -> list[Row]:
    bounds = [bound(*random_problem(seed)) for seed in range(number)]
    gaps = [(each.log_success - each.lower_bound).item() for each in bounds]
    errors = [abs(gap - each.divergence.item()) for gap, each in zip(gaps, bounds, strict=True)]
    tight_world, _ = random_problem(0)
    restricted = bound(*_at_expert_success(tight_world))
    return [
        at_least(f"{number} random problems: smallest log pi(S) - bound", min(gaps), 0.0),
        at_most("  largest |difference - KL(T_S || pi_S)|", max(errors), 1e-12),
        at_most(
            "  pi = T_S: |log pi(S) - bound|",
            abs((restricted.log_success - restricted.lower_bound).item()),
            1e-12,
        ),
    ]


def _chain_rule_rows() -> list[Row]:
    """The sequence's cross-entropy is the sum of the per-state ones over the states that T_S
    visits."""
    world, parameters_dv = random_problem(0)
    student_sv = world.student_logprobs_sv(parameters_dv)
    expert_n = _expert_success_logprobs_n(world)
    whole = forward_cross_entropy(expert_n, world.sequence_logprobs_n(student_sv))
    by_state = (_visits_s(world) * forward_cross_entropy(_conditionals_sv(world), student_sv)).sum()
    return [
        at_most(
            "|E_{T_S}[-log pi(y)] - sum of H at T_S's states|",
            abs((whole - by_state).item()),
            1e-12,
        )
    ]


def _descent_rows(rate: float = 1.0) -> list[Row]:
    """Log-success and Pass@8 while only the forward cross-entropies are minimised."""
    world, target_dv = _at_expert_success(random_problem(0)[0])
    conditionals_sv, visits_s = _conditionals_sv(world), _visits_s(world)
    parameters_dv = torch.zeros_like(target_dv)
    rows: list[Row] = []
    previous, smallest_rise = -torch.inf, torch.inf
    for step in range(max(_SHOWN_STEPS) + 1):
        leaf_dv = parameters_dv.requires_grad_(True)
        now = bound(world, leaf_dv)
        smallest_rise = min(smallest_rise, now.lower_bound.item() - previous)
        previous = now.lower_bound.item()
        if step in _SHOWN_STEPS:
            success = now.log_success.exp().item()
            rows += [
                unchecked(f"step {step}: bound", previous),
                at_least(f"step {step}: log pi(S)", now.log_success.item(), previous),
                unchecked(f"step {step}: Pass@8 = 1 - (1 - pi(S))^8", 1 - (1 - success) ** 8),
            ]
        losses_s = forward_cross_entropy(conditionals_sv, world.student_logprobs_sv(leaf_dv))
        gradient_dv = torch.autograd.grad((visits_s * losses_s).sum(), leaf_dv)[0]
        parameters_dv = (leaf_dv - rate * gradient_dv).detach()
    rows.append(at_least("smallest rise of the bound in a step", smallest_rise, 0.0))
    return rows


def _succeeds_n(world: Problem) -> Tensor:
    return (world.tokens_nt * world.mask_nt).sum(-1) == 3


def _expert_success_logprobs_n(world: Problem) -> Tensor:
    """log T_S(y), `-inf` outside S."""
    logprobs_n = world.sequence_logprobs_n(world.expert_logprobs_sv)
    restricted_n = torch.where(_succeeds_n(world), logprobs_n, -torch.inf)
    return restricted_n - torch.logsumexp(restricted_n, dim=0)


def _flow_sv(world: Problem) -> Tensor:
    """How often T_S takes each token at each state."""
    mass_nt = _expert_success_logprobs_n(world).exp()[:, None] * world.mask_nt
    flow_sv = torch.zeros_like(world.expert_logprobs_sv)
    return flow_sv.index_put((world.states_nt, world.tokens_nt), mass_nt, accumulate=True)


def _visits_s(world: Problem) -> Tensor:
    """How often T_S visits each state."""
    return _flow_sv(world).sum(-1)


def _conditionals_sv(world: Problem) -> Tensor:
    """log T_S(v | s); uniform at states that T_S never visits."""
    flow_sv, visits_s = _flow_sv(world), _visits_s(world)
    uniform = 1.0 / flow_sv.shape[1]
    return torch.where(visits_s[:, None] > 0, flow_sv / visits_s[:, None], uniform).log()


def _at_expert_success(world: Problem) -> tuple[Problem, Tensor]:
    """A student with its own parameters at every state, set to T_S."""
    conditionals_sv = _conditionals_sv(world)
    own_sd = torch.eye(len(conditionals_sv), dtype=torch.float64)
    # exp(-60) is far below rounding and keeps the logits finite.
    return replace(world, features_sd=own_sd), conditionals_sv.clamp(min=-60.0)
