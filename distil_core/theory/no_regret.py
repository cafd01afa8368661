"""Fact 5: training on all tables so far has no regret; training on the latest alone can have some.

docs/method.md#fact-5 (follow the leader, DAgger). A convex toy: the student is one probability p
of token 1, the same at every state. On even iterations the expert wants whichever token is rarer in
the prefix, so a student fitted to one table disagrees with its own next one. On odd iterations the
prompt is another, and the expert wants token 1. Tables are exact: every prefix, with the
probability that checkpoint i reaches it.
"""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from distil_core.theory.table import Row, Table, at_least, at_most, unchecked

_LENGTH, _EXPERT_MASS, _START = 9, 0.95, 0.9
_ROUNDS = (10, 100, 1000, 10000)


@dataclass(frozen=True)
class OnlineRun:
    """One run of training. policies_i: p of checkpoint i. wanted_i: table i's mean expert mass on
    token 1."""

    policies_i: Tensor
    wanted_i: Tensor

    def average_regret(self, rounds: int) -> float:
        """The mean loss over the first `rounds` tables, minus that of the best single policy in
        hindsight."""
        policies_i, wanted_i = self.policies_i[:rounds], self.wanted_i[:rounds]
        # The loss is convex in p, and its slope is 0 at the mean of the tables' wanted mass.
        best = wanted_i.mean()
        return float((loss(policies_i, wanted_i) - loss(best, wanted_i)).mean())


def loss(policies: Tensor, wanted: Tensor) -> Tensor:
    """Mean forward cross-entropy per token of policy p on a table; arguments broadcast."""
    return -torch.xlogy(wanted, policies) - torch.xlogy(1 - wanted, 1 - policies)


def verify() -> Table:
    """The table of fact 5: the regret of both ways to train, and a corner of the matrix of
    losses."""
    aggregated, latest = (follow_the_leader(max(_ROUNDS), every) for every in (True, False))
    return Table(
        "5. No regret",
        "One shared probability p; what the expert wants depends on where p leads.\n"
        "Checkpoint i + 1 minimises the loss on all tables up to i, or on table i alone.",
        [*_regret_rows(aggregated, latest), *_matrix_rows(aggregated)],
    )


def _regret_rows(aggregated: OnlineRun, latest: OnlineRun) -> list[Row]:
    rows: list[Row] = []
    for rounds in _ROUNDS:
        regret = aggregated.average_regret(rounds)
        # Follow the leader on strongly convex losses: O(log n / n).
        scaled = abs(regret) * rounds / (1 + math.log(rounds))
        rows += [
            unchecked(f"all tables, n = {rounds}: average regret", regret),
            at_most("  |regret| n / (1 + log n)", scaled, 1.0),
        ]
    last = max(_ROUNDS)
    return [
        *rows,
        at_most(f"all tables, n = {last}: |regret|", abs(aggregated.average_regret(last)), 1e-3),
        at_least(f"latest table only, n = {last}: regret", latest.average_regret(last), 0.1),
    ]


def _matrix_rows(aggregated: OnlineRun, size: int = 4) -> list[Row]:
    policies_j1 = aggregated.policies_i[:size, None]
    matrix_ji = loss(policies_j1, aggregated.wanted_i[:size])
    return [
        unchecked(f"all tables: loss of checkpoint {j} on table {i}", float(matrix_ji[j, i]))
        for j, i in itertools.product(range(size), repeat=2)
    ]


def follow_the_leader(rounds: int, all_tables: bool) -> OnlineRun:
    """Follow the leader over exact tables, starting from p = 0.9."""
    wants_s, ones_s, zeros_s = _states()
    policy, total = _START, 0.0
    policies, wanted = [], []
    for iteration in range(rounds):
        policies.append(policy)
        visits_s = policy**ones_s * (1 - policy) ** zeros_s
        disagreeing = float(visits_s @ wants_s) / _LENGTH
        wanted.append(_EXPERT_MASS if iteration % 2 else disagreeing)
        total += wanted[-1]
        policy = total / (iteration + 1) if all_tables else wanted[-1]
    return OnlineRun(torch.tensor(policies).double(), torch.tensor(wanted).double())


def _states() -> tuple[Tensor, Tensor, Tensor]:
    """For every prefix: the expert's mass on token 1, the number of ones, and the number of
    zeros."""
    prefixes = [p for n in range(_LENGTH) for p in itertools.product((0, 1), repeat=n)]
    ones_s = torch.tensor([float(sum(prefix)) for prefix in prefixes], dtype=torch.float64)
    lengths_s = torch.tensor([float(len(prefix)) for prefix in prefixes], dtype=torch.float64)
    surplus_s = torch.sign(lengths_s - 2 * ones_s)
    return 0.5 + (_EXPERT_MASS - 0.5) * surplus_s, ones_s, lengths_s - ones_s
