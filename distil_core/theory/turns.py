"""Fact 6: with an environment between turns, the gradient is that of the policy's own tokens.

docs/method.md#fact-6. A response has two turns of at most two tokens each, of a vocabulary of
three; token 0 ends a turn. Between them a tool answers with one or two tokens that are a fixed
function of the first turn. The student reads the answer, and its features at every state are random
and shared. Every rollout is enumerated, its tokens are told apart as training tells them apart, and
the production objective's gradients are averaged with their exact probabilities.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distil_core.objectives import OBJECTIVES
from distil_core.objectives.base import Objective
from distil_core.policy.batching import collate
from distil_core.theory.enumeration import (
    Problem,
    exact_gradient,
    group_gradients,
    relative_error,
)
from distil_core.theory.table import Row, Table, at_least, at_most
from distil_core.training.policy_tokens import Turns, policy_tokens

Build = Callable[[dict[str, Any]], Objective]

TOLERANCE = 1e-10
_NUM_TOKENS, _END, _LONGEST_TURN = 3, 0, 2
_DISCOUNT = 0.5


@dataclass(frozen=True)
class ToolWorld:
    """The same rollouts in two views. own: the policy's tokens, as training has them. whole: all
    tokens, the tool's among them, which `policys_ns` tells apart. turns_ns: of all tokens."""

    own: Problem
    whole: Problem
    policys_ns: Tensor
    turns_ns: Tensor
    parameters_dv: Tensor


def production(options: dict[str, Any]) -> Objective:
    """The objective over turns as training builds it, by name."""
    objective: Objective = OBJECTIVES.build("forward_cross_entropy_over_turns", options)
    return objective


def verify(build: Build = production, seed: int = 0) -> Table:
    """The table of fact 6. build: maps options to an objective, so that a test can pass a wrong
    one."""
    world = tool_world(seed)
    return Table(
        "6. Turns",
        "Relative error of E[production gradient] against autograd of\n"
        "L = sum_y pi(y) sum_t H(T_t, pi(.|s_t)), t over the policy's tokens, the tool's answer a\n"
        "fixed function of the first turn; and what it is where the answer counts as written.",
        [*_right_rows(build, world), *_wrong_rows(build, world)],
    )


def _right_rows(build: Build, world: ToolWorld) -> list[Row]:
    truth_p = exact_gradient(world.own, world.parameters_dv)

    def error(group_size: int, truth_p: Tensor = truth_p, **options: Any) -> float:
        found_p = _expectation(build, world.own, world, group_size, **options)
        return relative_error(found_p, truth_p)

    rows = [
        at_most("no baseline", error(1, baseline="none"), TOLERANCE),
        at_most("leave_one_out by token, pairs", error(2), TOLERANCE),
        at_most("leave_one_out by turn, pairs", error(2, baseline_alignment="turn"), TOLERANCE),
    ]
    for per in ("token", "turn"):
        defined_p = defined_gradient(world, _DISCOUNT, per)
        options = {"discount": _DISCOUNT, "discount_per": per, "baseline": "none"}
        found = error(1, defined_p, **options)
        rows.append(at_most(f"discount 0.5 per {per}, against its definition", found, TOLERANCE))
    return rows


def _wrong_rows(build: Build, world: ToolWorld) -> list[Row]:
    truth_p = exact_gradient(world.own, world.parameters_dv)
    answers = ~world.policys_ns
    is_answered_s = torch.zeros(len(world.whole.expert_logprobs_sv), dtype=torch.bool)
    is_answered_s[world.whole.states_nt[answers & world.whole.mask_nt]] = True
    silent_sv = world.whole.expert_logprobs_sv.masked_fill(is_answered_s[:, None], -torch.inf)
    counted = replace(world.whole, mask_nt=world.whole.mask_nt & world.policys_ns)

    def off(shown: Problem, truth_p: Tensor, **options: Any) -> float:
        return relative_error(
            _expectation(build, shown, world, 1, baseline="none", **options), truth_p
        )

    credited = replace(world.whole, expert_logprobs_sv=silent_sv)
    rows = [
        at_least("the answer matched and credited: wrong by", off(world.whole, truth_p), 0.01),
        at_least("credited, the expert silent there: wrong by", off(credited, truth_p), 0.01),
        at_most("a place in the row alone, no discount", off(counted, truth_p), TOLERANCE),
    ]
    defined_p = defined_gradient(world, _DISCOUNT, "token")
    found = off(counted, defined_p, discount=_DISCOUNT)
    rows.append(at_least("a place that counts in discount 0.5: wrong by", found, 1e-3))
    return rows


def tool_world(seed: int) -> ToolWorld:
    """A random student and expert over all rollouts of the tool's problem."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    rollouts = [
        (first, _answer(first), second) for first, second in itertools.product(_turns(), repeat=2)
    ]
    tokens = [list(itertools.chain.from_iterable(parts)) for parts in rollouts]
    prefixes = sorted({tuple(one[:end]) for one in tokens for end in range(len(one))})
    number = {prefix: index for index, prefix in enumerate(prefixes)}
    length = max(map(len, tokens))
    states_ns, tokens_ns, turns_ns = torch.zeros(3, len(tokens), length, dtype=torch.int64)
    policys_ns, mask_ns = torch.zeros(2, len(tokens), length, dtype=torch.bool)
    for row, (parts, ids) in enumerate(zip(rollouts, tokens, strict=True)):
        place = slice(0, len(ids))
        states_ns[row, place] = torch.tensor([number[tuple(ids[:end])] for end in range(len(ids))])
        tokens_ns[row, place] = torch.tensor(ids)
        mask_ns[row, place] = True
        whose = [part for part, written in enumerate(parts) for _ in written]
        policys_ns[row, place] = torch.tensor([part != 1 for part in whose])
        turns_ns[row, place] = torch.tensor([part // 2 for part in whose])
        turns_ns[row, len(ids) :] = 1
    expert_sv = torch.log_softmax(1.5 * normal(len(prefixes), _NUM_TOKENS), dim=-1)
    members = torch.eye(_NUM_TOKENS, _NUM_TOKENS + 1, dtype=torch.float64)
    whole = Problem(
        features_sd=normal(len(prefixes), 4),
        expert_logprobs_sv=expert_sv,
        bucket_members_svk=members.expand(len(prefixes), -1, -1),
        states_nt=states_ns,
        tokens_nt=tokens_ns,
        mask_nt=mask_ns,
        turns_nt=turns_ns,
    )
    # As training tells the tokens apart, from the lengths of a table's row.
    batch = collate([[_END]] * len(tokens), tokens, "cpu")
    told = policy_tokens(
        [
            Turns(
                np.array(ids, np.int32),
                np.array(list(map(len, parts)), np.int32),
                np.empty(0, np.int32),
            )
            for parts, ids in zip(rollouts, tokens, strict=True)
        ],
        batch,
    )
    assert told is not None
    own = replace(
        whole,
        states_nt=told.picked(states_ns),
        tokens_nt=told.response_ids_bt,
        mask_nt=told.response_mask_bt,
        turns_nt=told.picked(turns_ns),
    )
    return ToolWorld(own, whole, policys_ns, turns_ns, normal(4, _NUM_TOKENS))


def defined_gradient(world: ToolWorld, discount: float, per: str) -> Tensor:
    """The expectation of grad H_t + grad log pi(y_t) C_t, with C_t as docs/method.md#turns writes
    it, by a loop over all tokens of all rollouts; [P]."""
    leaf_dv = world.parameters_dv.detach().requires_grad_(True)
    logprobs_sv = world.own.student_logprobs_sv(leaf_dv)
    costs_s = -(world.own.expert_logprobs_sv.exp() * logprobs_sv).sum(-1)
    probabilities_n = world.own.sequence_logprobs_n(logprobs_sv).detach().exp()
    total = logprobs_sv.new_zeros(())
    whole = world.whole
    for row, probability in enumerate(probabilities_n):
        places = [
            place
            for place in range(whole.mask_nt.shape[1])
            if whole.mask_nt[row, place] and world.policys_ns[row, place]
        ]
        for number, place in enumerate(places):
            state, token = whole.states_nt[row, place], whole.tokens_nt[row, place]
            credit = logprobs_sv.new_zeros(())
            for steps, later in enumerate(places[number + 1 :]):
                turns = int(world.turns_ns[row, later] - world.turns_ns[row, place])
                power = steps if per == "token" else turns
                credit = credit + discount**power * costs_s[whole.states_nt[row, later]].detach()
            surrogate = costs_s[state] + credit * logprobs_sv[state, token]
            total = total + probability * surrogate
    return torch.autograd.grad(total, leaf_dv)[0].flatten()


def _expectation(
    build: Build, shown: Problem, world: ToolWorld, group_size: int, **options: Any
) -> Tensor:
    """Of the objective's gradient, where it is shown the rollouts in one view; they are drawn as
    the policy and the tool write them."""
    probabilities_g, gradients_gp = group_gradients(
        build(options), shown, world.parameters_dv, group_size
    )
    if group_size == 1:
        logprobs_sv = world.own.student_logprobs_sv(world.parameters_dv)
        probabilities_g = world.own.sequence_logprobs_n(logprobs_sv).exp()
    return probabilities_g @ gradients_gp


def _turns() -> list[tuple[int, ...]]:
    tokens = range(_NUM_TOKENS)
    longest = itertools.product((t for t in tokens if t != _END), tokens)
    return [(_END,), *longest]


def _answer(turn: tuple[int, ...]) -> tuple[int, ...]:
    """Of one token or two, by what the turn says."""
    said = sum(turn) % _NUM_TOKENS
    return (said,) if said == 0 else (said, (said * 2) % _NUM_TOKENS)
