"""Divergences between an expert's and a student's distribution over the same buckets.

Every function takes natural logarithms with the buckets on the last axis, `[..., k]`, float32 or
float64, and returns nats, `[...]`. The name gives the direction: forward has the expert first,
reverse the student. `0 * log 0 = 0`, in the value and in the gradient. A bucket without expert mass
may be padding, where the student's value is meaningless, so it is never read: the student's mass
outside the expert's support is 1 minus its mass inside, treated as one bucket.
"""

import math

import torch
from torch import Tensor

# exp of this is 0 even in float64, and its product with that 0 is finite.
_LEAST_LOGPROB = -1.0e4


def forward_cross_entropy(expert_logprobs: Tensor, student_logprobs: Tensor) -> Tensor:
    """H(T, pi) = - sum_a T(a) log pi(a), the local cost; `[..., k] -> [...]`.

    docs/method.md#objective.

    Infinite where the student gives no mass to a bucket that the expert needs.
    """
    expert_mass = torch.exp(expert_logprobs)
    # Replaced before the product, as 0 * -inf is NaN, in the gradient too.
    needed_logprobs = torch.where(expert_mass > 0, student_logprobs, 0.0)
    return -(expert_mass * needed_logprobs).sum(-1)


def entropy(logprobs: Tensor) -> Tensor:
    """H(T) = - sum_a T(a) log T(a); `[..., k] -> [...]`."""
    return forward_cross_entropy(logprobs, logprobs)


def unsupported_student_mass(expert_logprobs: Tensor, student_logprobs: Tensor) -> Tensor:
    """The student's mass where the expert has none, in [0, 1]; `[..., k] -> [...]`."""
    supported, readable_logprobs = _inside_support(expert_logprobs, student_logprobs)
    inside = torch.where(supported, torch.exp(readable_logprobs), 0.0).sum(-1)
    return (1.0 - inside).clamp(min=0.0)


def reverse_kl_divergence(
    student_logprobs: Tensor, expert_logprobs: Tensor, expert_floor: float
) -> Tensor:
    """KL(pi || T) = sum_a pi(a) log(pi(a) / T(a)); `[..., k] -> [...]`.

    docs/method.md#other-objectives.

    expert_floor: the least mass that the expert counts with, which keeps the value finite where the
        expert has none. The floored expert is not renormalised: the value is the exact divergence
        wherever the floor does not act, and never below -(k + 1) * expert_floor.
    """
    supported, readable_logprobs = _inside_support(expert_logprobs, student_logprobs)
    log_ratio = readable_logprobs - expert_logprobs.clamp(min=math.log(expert_floor))
    inside = torch.where(supported, torch.exp(readable_logprobs) * log_ratio, 0.0).sum(-1)
    outside = unsupported_student_mass(expert_logprobs, student_logprobs)
    # A mass that is 0 up to rounding counts as 0: near it the slope of x log x is unbounded.
    real = outside > torch.finfo(outside.dtype).eps
    safe_outside = torch.where(real, outside, 1.0)
    outside_cost = safe_outside * (torch.log(safe_outside) - math.log(expert_floor))
    return inside + torch.where(real, outside_cost, 0.0)


def jensen_shannon_divergence(
    expert_logprobs: Tensor, student_logprobs: Tensor, expert_weight: float
) -> Tensor:
    """w KL(T || M) + (1 - w) KL(pi || M) with M = w T + (1 - w) pi.

    docs/method.md#other-objectives.

    expert_weight: w in (0, 1), exclusive; 0.5 is the symmetric divergence. It is bounded and needs
        no floor: outside the expert's support M is (1 - w) pi, however many buckets are there.
    """
    log_expert_weight, log_student_weight = math.log(expert_weight), math.log1p(-expert_weight)
    supported, readable_logprobs = _inside_support(expert_logprobs, student_logprobs)
    readable_expert = torch.where(supported, expert_logprobs, 0.0)
    mixture = torch.logaddexp(
        readable_expert + log_expert_weight, readable_logprobs + log_student_weight
    )
    expert_side = torch.exp(readable_expert) * (readable_expert - mixture)
    student_side = torch.exp(readable_logprobs) * (readable_logprobs - mixture)
    both_sides = expert_weight * expert_side + (1.0 - expert_weight) * student_side
    outside = unsupported_student_mass(expert_logprobs, student_logprobs)
    outside_cost = (1.0 - expert_weight) * -log_student_weight * outside
    return torch.where(supported, both_sides, 0.0).sum(-1) + outside_cost


def _inside_support(expert_logprobs: Tensor, student_logprobs: Tensor) -> tuple[Tensor, Tensor]:
    """Where the expert has mass, and the student's log-probability there: finite, 0 elsewhere."""
    supported = torch.exp(expert_logprobs) > 0
    return supported, torch.where(supported, student_logprobs, 0.0).clamp(min=_LEAST_LOGPROB)
