"""Fact 2: forward cross-entropy moves towards a better expert; other divergences may not.

docs/method.md#fact-2. One state, in distribution space: the gradient of each production
objective with respect to the logits is converted to the movement of the distribution under the
natural gradient.
"""

from typing import Any

import torch
from torch import Tensor

from distil_core.objectives import OBJECTIVES
from distil_core.objectives.base import Objective, ObjectiveBatch
from distil_core.objectives.estimators.divergences import forward_cross_entropy
from distil_core.theory.table import Row, Table, at_least, at_most, equal, unchecked

_REVERSE_KL_CASE = ((1.0, 0.9, 0.0), (0.3, 0.6, 0.1), (0.95, 0.0001, 0.0499))
_JENSEN_SHANNON_CASE = ((1.0, 0.9, 0.0), (0.02, 0.97, 0.01), (0.9499, 0.0001, 0.05))
# By hand, from the formulas of docs/method.md#fact-2: J(pi), J(T) and the named objective's dJ.
_BY_HAND = {"reverse_kl": (0.84, 0.95009, -0.19946), "jensen_shannon": (0.893, 0.94999, -0.00385)}


def verify(num_random: int = 2000, seed: int = 0) -> Table:
    """The table of fact 2, with the two counter-examples to the others."""
    return Table(
        "2. Monotonic improvement",
        "J(p) = sum_a r(a) p(a). dJ: its rate along minus the natural gradient of a production\n"
        "objective, at one state with rewards r, student pi and an expert T with J(T) > J(pi).",
        [
            *_counter_example("reverse_kl", _REVERSE_KL_CASE),
            *_counter_example("jensen_shannon", _JENSEN_SHANNON_CASE),
            *_random_rows(num_random, seed),
            *_proximal_rows(),
        ],
    )


def movement_ba(name: str, student_ba: Tensor, expert_ba: Tensor) -> Tensor:
    """d pi / d time of each row, under minus the natural gradient of the named objective."""
    logits_ba = student_ba.log().requires_grad_(True)
    logprobs_ba = torch.log_softmax(logits_ba, dim=-1)
    options: dict[str, Any] = {"loss_normalisation": "constant", "loss_constant": 1.0}
    objective: Objective = OBJECTIVES.build(name, options)
    output = objective(_one_state_batch(logprobs_ba, expert_ba.log()))
    gradient_ba = torch.autograd.grad(output.loss, logits_ba)[0]
    fisher_baa = torch.diag_embed(student_ba) - student_ba[:, :, None] * student_ba[:, None, :]
    logit_step_ba1 = (
        -torch.linalg.pinv(fisher_baa, rtol=1e-12, hermitian=True) @ gradient_ba[..., None]
    )
    movement_ba1: Tensor = fisher_baa @ logit_step_ba1
    return movement_ba1[..., 0]


def _counter_example(name: str, case: tuple[tuple[float, ...], ...]) -> list[Row]:
    """Both objectives on one state where the named one makes the student worse though its expert is
    better."""
    rewards_a, student_a, expert_a = torch.tensor(case, dtype=torch.float64)
    forward_a = movement_ba("forward_cross_entropy", student_a[None], expert_a[None])[0]
    other_a = movement_ba(name, student_a[None], expert_a[None])[0]
    if name == "reverse_kl":
        score_a, formula = (expert_a / student_a).log(), "Cov_pi(r, log(T/pi))"
    else:
        mixture_a = (expert_a + student_a) / 2
        score_a, formula = (mixture_a / student_a).log() / 2, "Cov_pi(r, log(M/pi)) / 2"
    covariance = student_a @ (rewards_a * score_a) - (student_a @ rewards_a) * (student_a @ score_a)
    student_value, expert_value = float(rewards_a @ student_a), float(rewards_a @ expert_a)
    largest = float((forward_a - (expert_a - student_a)).abs().max())
    by_hand = _BY_HAND[name]
    return [
        equal(f"r={case[0]} pi={case[1]} T={case[2]}: J(pi)", student_value, by_hand[0]),
        equal("  J(T)", expert_value, by_hand[1]),
        at_least("  J(T) - J(pi)", expert_value - student_value, 0.0),
        at_most("  forward_cross_entropy: |d pi - (T - pi)|", largest, 1e-12),
        equal(
            "  forward_cross_entropy: dJ = J(T) - J(pi)",
            float(rewards_a @ forward_a),
            expert_value - student_value,
        ),
        equal(f"  {name}: dJ", float(rewards_a @ other_a), by_hand[2], tolerance=1e-5),
        equal(f"  {name}: dJ = {formula}", float(rewards_a @ other_a), float(covariance)),
    ]


def _random_rows(number: int, seed: int) -> list[Row]:
    """How often each objective moves the wrong way, over random states with a better expert."""
    generator = torch.Generator().manual_seed(seed)
    rewards_ba = torch.rand(number, 3, generator=generator, dtype=torch.float64)
    logits = 2.0 * torch.randn(2, number, 3, generator=generator, dtype=torch.float64)
    student_ba, expert_ba = torch.softmax(logits, dim=-1)
    gain_b = (rewards_ba * (expert_ba - student_ba)).sum(-1)
    better_b = gain_b > 0

    def rates_b(name: str) -> Tensor:
        return (rewards_ba * movement_ba(name, student_ba, expert_ba)).sum(-1)[better_b]

    def wrong_percent(name: str) -> float:
        return 100.0 * float((rates_b(name) < 0).double().mean())

    forward_b = rates_b("forward_cross_entropy")
    return [
        unchecked("random states with a better expert", int(better_b.sum())),
        at_most(
            "  forward_cross_entropy: largest |dJ - (J(T) - J(pi))|",
            float((forward_b - gain_b[better_b]).abs().max()),
            1e-10,
        ),
        at_least("  forward_cross_entropy: smallest dJ", float(forward_b.min()), 0.0),
        at_least("  reverse_kl: % of states where dJ < 0", wrong_percent("reverse_kl"), 0.1),
        at_least(
            "  jensen_shannon: % of states where dJ < 0", wrong_percent("jensen_shannon"), 0.1
        ),
    ]


def _proximal_rows(step: float = 0.25, number: int = 1000) -> list[Row]:
    """argmin_q step * H(T, q) + (1 - step) * H(pi, q) is (1 - step) pi + step T."""
    rewards_a, student_a, expert_a = torch.tensor(_REVERSE_KL_CASE, dtype=torch.float64)
    minimiser_a = (1 - step) * student_a + step * expert_a

    def value(logprobs: Tensor) -> Tensor:
        to_expert = forward_cross_entropy(expert_a.log(), logprobs)
        return step * to_expert + (1 - step) * forward_cross_entropy(student_a.log(), logprobs)

    logits_a = minimiser_a.log().requires_grad_(True)
    (slope_a,) = torch.autograd.grad(value(torch.log_softmax(logits_a, dim=-1)), logits_a)
    generator = torch.Generator().manual_seed(0)
    noise_ba = torch.randn(number, 3, generator=generator, dtype=torch.float64)
    others_b = value(torch.log_softmax(minimiser_a.log() + noise_ba, dim=-1))
    return [
        at_most("proximal step: |slope| at (1-eta) pi + eta T", float(slope_a.norm()), 1e-12),
        at_least(
            "  least value of others minus its own",
            float((others_b - value(minimiser_a.log())).min()),
            0.0,
        ),
        equal(
            "  J(q) - J(pi) = eta (J(T) - J(pi))",
            float(rewards_a @ (minimiser_a - student_a)),
            step * float(rewards_a @ (expert_a - student_a)),
        ),
    ]


def _one_state_batch(student_logprobs_ba: Tensor, expert_logprobs_ba: Tensor) -> ObjectiveBatch:
    """Rows of one position each; all tokens stored, the tail empty."""
    number = len(student_logprobs_ba)
    sampled_b1 = student_logprobs_ba[:, :1]
    return ObjectiveBatch(
        student_bucket_logprobs_btk=torch.nn.functional.pad(student_logprobs_ba, (0, 1))[:, None],
        expert_bucket_logprobs_btk=torch.nn.functional.pad(
            expert_logprobs_ba, (0, 1), value=-torch.inf
        )[:, None],
        sampled_logprobs_bt=sampled_b1,
        behaviour_logprobs_bt=sampled_b1.detach(),
        response_mask_bt=torch.ones(number, 1, dtype=torch.bool),
        expert_mask_b=torch.ones(number, dtype=torch.bool),
        rewards_b=torch.zeros(number, dtype=torch.float64),
        group_ids_b=torch.arange(number),
    )
