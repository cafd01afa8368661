"""Small autoregressive problems, in float64, of which every sequence is enumerated.

Axes: `n` sequences, `s` states (prefixes), `v` tokens, `k` buckets, `d` features, `g` groups of
rollouts, `p` parameters, `b`, `t` as in an `ObjectiveBatch`. The exact loss is computed here from
sequence probabilities, independently of the production objectives.
"""

import itertools
import math
from collections import Counter
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from distil_core.objectives.base import Objective, ObjectiveBatch
from distil_core.objectives.estimators.turn_rewards import BatchOfTurnRewards
from distil_core.objectives.estimators.turns import BatchOfTurns

Cost = Literal["cross_entropy", "kl_divergence"]


@dataclass(frozen=True)
class Problem:
    """Student and expert over the prefixes of every sequence.

    features_sd: the student's logits are `features_sd @ parameters_dv`; fewer features than states
        share parameters between states.
    expert_logprobs_sv: the expert at every state, `-inf` allowed.
    bucket_members_svk: 1.0 where a token belongs to a bucket at a state; the tail is last.
    states_nt, tokens_nt, mask_nt: the enumerated sequences, padded with 0. turns_nt: the turn of
    each token; None where a sequence is a single response. rewards_n: of each sequence; None where
    it has none. turn_rewards_nk: of each of its turns, besides; None where they have none.
    """

    features_sd: Tensor
    expert_logprobs_sv: Tensor
    bucket_members_svk: Tensor
    states_nt: Tensor
    tokens_nt: Tensor
    mask_nt: Tensor
    turns_nt: Tensor | None = None
    rewards_n: Tensor | None = None
    turn_rewards_nk: Tensor | None = None

    def student_logprobs_sv(self, parameters_dv: Tensor) -> Tensor:
        """log pi(v | s)."""
        return torch.log_softmax(self.features_sd @ parameters_dv, dim=-1)

    def sequence_logprobs_n(self, logprobs_sv: Tensor) -> Tensor:
        """log probability of each whole sequence."""
        token_logprobs_nt = logprobs_sv[self.states_nt, self.tokens_nt]
        return torch.where(self.mask_nt, token_logprobs_nt, 0.0).sum(-1)

    def bucket_mass_sk(self, logprobs_sv: Tensor) -> Tensor:
        """Mass of each bucket at each state; 0 in an empty bucket."""
        return torch.einsum("sv,svk->sk", logprobs_sv.exp(), self.bucket_members_svk)


def problem(
    features_sd: Tensor | None,
    expert_logprobs_sv: Tensor,
    *,
    max_length: int,
    end_token: int | None = None,
    top_k: int | None = None,
) -> Problem:
    """Every sequence of at most `max_length` tokens; `end_token` ends one early.

    features_sd: None gives every state its own parameters. States are ordered by length, then by
    tokens. top_k: the expert's best tokens have buckets of their own and the rest is the tail; None
    stores all, leaving an empty tail.
    """
    num_tokens = expert_logprobs_sv.shape[1]
    states, sequences = _prefixes(num_tokens, max_length, end_token)
    number = {state: index for index, state in enumerate(states)}
    padded = torch.zeros(2, len(sequences), max_length, dtype=torch.int64)
    mask_nt = torch.zeros(len(sequences), max_length, dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        for position, token in enumerate(sequence):
            padded[0, row, position] = number[sequence[:position]]
            padded[1, row, position] = token
            mask_nt[row, position] = True
    stored = num_tokens if top_k is None else top_k
    rank_sv = expert_logprobs_sv.argsort(dim=-1, descending=True).argsort(dim=-1)
    bucket_sv = rank_sv.clamp(max=stored)
    members_svk = torch.nn.functional.one_hot(bucket_sv, stored + 1).double()
    identity_ss = torch.eye(len(states), dtype=torch.float64)
    return Problem(
        features_sd=identity_ss if features_sd is None else features_sd,
        expert_logprobs_sv=expert_logprobs_sv,
        bucket_members_svk=members_svk,
        states_nt=padded[0],
        tokens_nt=padded[1],
        mask_nt=mask_nt,
    )


def random_problem(
    seed: int,
    *,
    num_tokens: int = 3,
    max_length: int = 3,
    end_token: int | None = 0,
    top_k: int | None = None,
) -> tuple[Problem, Tensor]:
    """A random problem and parameters, (problem, parameters_dv): states share the student's
    parameters.

    At the first state the expert gives the last token no mass at all.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    states = len(_prefixes(num_tokens, max_length, end_token)[0])
    expert_logits_sv = 1.5 * normal(states, num_tokens)
    expert_logits_sv[0, -1] = -torch.inf
    world = problem(
        normal(states, 4),
        torch.log_softmax(expert_logits_sv, dim=-1),
        max_length=max_length,
        end_token=end_token,
        top_k=top_k,
    )
    return world, normal(4, num_tokens)


def exact_loss(world: Problem, parameters_dv: Tensor, cost: Cost = "cross_entropy") -> Tensor:
    """L(theta) = sum_y pi(y) sum_t cost(T_t, pi(.|s_t)) (docs/method.md#objective), with
    gradient."""
    logprobs_sv = world.student_logprobs_sv(parameters_dv)
    expert_sk = world.bucket_mass_sk(world.expert_logprobs_sv)
    student_sk = world.bucket_mass_sk(logprobs_sv)
    # An expert bucket of mass 0 costs nothing, whatever the student has there.
    needed_sk = torch.where(expert_sk > 0, student_sk, 1.0)
    costs_s = -torch.special.xlogy(expert_sk, needed_sk).sum(-1)
    if cost == "kl_divergence":
        costs_s = costs_s + torch.special.xlogy(expert_sk, expert_sk).sum(-1)
    costs_nt = torch.where(world.mask_nt, costs_s[world.states_nt], 0.0)
    return (world.sequence_logprobs_n(logprobs_sv).exp() * costs_nt.sum(-1)).sum()


def objective_batch(
    world: Problem,
    logprobs_sv: Tensor,
    rows_b: Tensor,
    groups_b: Tensor,
    behaviour_bt: Tensor | None = None,
) -> ObjectiveBatch:
    """The sequences `rows_b` as a production batch. behaviour_bt: None means on policy."""
    expert_sk = world.bucket_mass_sk(world.expert_logprobs_sv).log()
    student_mass_sk = world.bucket_mass_sk(logprobs_sv)
    # An empty bucket may hold any finite value by the contract; here it is log 1.
    empty_sk = world.bucket_members_svk.sum(1) == 0
    rewards_n = world.mask_nt.new_zeros(len(world.mask_nt), dtype=torch.float64)
    rewards_n = rewards_n if world.rewards_n is None else world.rewards_n
    student_sk = torch.where(empty_sk, 1.0, student_mass_sk).log()
    states_bt, tokens_bt = world.states_nt[rows_b], world.tokens_nt[rows_b]
    sampled_bt = logprobs_sv[states_bt, tokens_bt]
    batch = ObjectiveBatch(
        student_bucket_logprobs_btk=student_sk[states_bt],
        expert_bucket_logprobs_btk=expert_sk[states_bt],
        sampled_logprobs_bt=sampled_bt,
        behaviour_logprobs_bt=sampled_bt.detach() if behaviour_bt is None else behaviour_bt,
        response_mask_bt=world.mask_nt[rows_b],
        expert_mask_b=torch.ones(len(rows_b), dtype=torch.bool),
        rewards_b=rewards_n[rows_b],
        group_ids_b=groups_b,
        sampled_buckets_bt=world.bucket_members_svk.argmax(-1)[states_bt, tokens_bt],
    )
    if world.turns_nt is None:
        return batch
    turns_bt = world.turns_nt[rows_b]
    if world.turn_rewards_nk is None:
        return BatchOfTurns(**vars(batch), turn_ids_bt=turns_bt)
    return BatchOfTurnRewards(
        **vars(batch),
        turn_ids_bt=turns_bt,
        turn_rewards_bn=world.turn_rewards_nk[rows_b],
        num_turns_b=turns_bt.amax(1) + 1,
    )


def group_gradients(
    objective: Objective,
    world: Problem,
    parameters_dv: Tensor,
    group_size: int,
    sampler_parameters_dv: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """For every group of rollouts, ignoring order: its probability, [G], and its gradient, [G, P].

    Each group is a batch of its own, exactly as in a training step. sampler_parameters_dv: those of
    the policy that sampled the groups; None is the student itself.
    """
    student_dv = parameters_dv.detach().requires_grad_(True)
    student_sv = world.student_logprobs_sv(student_dv)
    sampler_dv = student_dv if sampler_parameters_dv is None else sampler_parameters_dv
    sampler_sv = world.student_logprobs_sv(sampler_dv).detach()
    behaviour_nt = sampler_sv[world.states_nt, world.tokens_nt]
    logprobs_n = world.sequence_logprobs_n(sampler_sv)
    leaf_sv = student_sv.detach().requires_grad_(True)
    same_group_b = torch.zeros(group_size, dtype=torch.int64)
    probabilities, gradients = [], []
    for rows in itertools.combinations_with_replacement(range(len(logprobs_n)), group_size):
        rows_b = torch.tensor(rows)
        batch = objective_batch(world, leaf_sv, rows_b, same_group_b, behaviour_nt[rows_b])
        gradients.append(torch.autograd.grad(objective(batch).loss, leaf_sv)[0])
        probabilities.append(_orders(rows) * logprobs_n[rows_b].sum().exp())
    gradients_gp = torch.autograd.grad(
        student_sv, student_dv, grad_outputs=torch.stack(gradients), is_grads_batched=True
    )[0].flatten(1)
    return torch.stack(probabilities), gradients_gp


def exact_gradient(world: Problem, parameters_dv: Tensor, cost: Cost = "cross_entropy") -> Tensor:
    """Autograd of `exact_loss`; [P]."""
    leaf_dv = parameters_dv.detach().requires_grad_(True)
    return torch.autograd.grad(exact_loss(world, leaf_dv, cost), leaf_dv)[0].flatten()


def relative_error(found: Tensor, expected: Tensor) -> float:
    """|found - expected| / |expected|, Euclidean norms."""
    return float(torch.linalg.vector_norm(found - expected) / torch.linalg.vector_norm(expected))


def _orders(rows: tuple[int, ...]) -> int:
    """The number of orders in which these rows could have been drawn."""
    repeats = (math.factorial(count) for count in Counter(rows).values())
    return math.factorial(len(rows)) // math.prod(repeats)


def _prefixes(
    num_tokens: int, max_length: int, end_token: int | None
) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """(states, complete sequences), both ordered by length and then by tokens."""
    states: list[tuple[int, ...]] = []
    complete: list[tuple[int, ...]] = []
    open_prefixes: list[tuple[int, ...]] = [()]
    for length in range(1, max_length + 1):
        states += open_prefixes
        longer = [(*prefix, token) for prefix in open_prefixes for token in range(num_tokens)]
        ended = [length == max_length or sequence[-1] == end_token for sequence in longer]
        complete += itertools.compress(longer, ended)
        open_prefixes = [sequence for sequence, end in zip(longer, ended, strict=True) if not end]
    return states, complete
