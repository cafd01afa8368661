"""The divergences: against hand-made numbers, their inequalities, and at the edges of support."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from objective_batches import examples
from torch import Tensor

from distil_core.objectives.estimators.divergences import (
    entropy,
    forward_cross_entropy,
    jensen_shannon_divergence,
    reverse_kl_divergence,
    unsupported_student_mass,
)

FLOOR = 1e-8
INF = math.inf


def forward_kl(expert: Tensor, student: Tensor) -> Tensor:
    """KL(T || pi), as the cost `kl_divergence` and the figures of hindsight have it."""
    return forward_cross_entropy(expert, student) - entropy(expert)


ALL: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "forward_cross_entropy": forward_cross_entropy,
    "forward_kl": forward_kl,
    "reverse_kl": lambda expert, student: reverse_kl_divergence(student, expert, FLOOR),
    "jensen_shannon": lambda expert, student: jensen_shannon_divergence(expert, student, 0.3),
}


def logs(*masses: float) -> Tensor:
    return torch.tensor(masses, dtype=torch.float64).log()


@st.composite
def distributions(draw: st.DrawFn, number: int = 2, full_support: bool = True) -> list[Tensor]:
    size = draw(st.integers(2, 6))
    found = []
    for _ in range(number):
        logits = torch.tensor(draw(st.lists(st.floats(-8, 8), min_size=size, max_size=size)))
        if not full_support:
            gone = draw(st.lists(st.booleans(), min_size=size - 1, max_size=size - 1))
            logits[1:] = logits[1:].masked_fill(torch.tensor(gone), -INF)
        found.append(torch.log_softmax(logits.double(), dim=-1))
    return found


def test_values_by_hand() -> None:
    expert, student = logs(0.5, 0.5), logs(0.25, 0.75)
    assert forward_cross_entropy(expert, student).item() == pytest.approx(
        -0.5 * math.log(0.25) - 0.5 * math.log(0.75), rel=1e-15
    )
    assert entropy(expert).item() == pytest.approx(math.log(2), rel=1e-15)
    assert forward_kl(expert, student).item() == pytest.approx(
        0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75), rel=1e-14
    )
    assert reverse_kl_divergence(student, expert, FLOOR).item() == pytest.approx(
        0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5), rel=1e-14
    )
    mixture = (0.375, 0.625)
    assert jensen_shannon_divergence(expert, student, 0.5).item() == pytest.approx(
        0.5 * sum(0.5 * math.log(0.5 / m) for m in mixture)
        + 0.5 * (0.25 * math.log(0.25 / 0.375) + 0.75 * math.log(0.75 / 0.625)),
        rel=1e-14,
    )


@examples
@given(distributions())
def test_direction_and_sign(pair: list[Tensor]) -> None:
    first, second = pair
    forward = forward_kl(first, second)
    assert forward >= -1e-12
    # KL(T || pi) with the roles exchanged is the reverse divergence, floor aside.
    torch.testing.assert_close(
        reverse_kl_divergence(first, second, 1e-30), forward, atol=1e-12, rtol=1e-12
    )
    symmetric = jensen_shannon_divergence(first, second, 0.5)
    torch.testing.assert_close(symmetric, jensen_shannon_divergence(second, first, 0.5))
    assert -1e-12 <= symmetric <= math.log(2) + 1e-12


@examples
@given(distributions(number=1))
def test_no_divergence_from_itself(single: list[Tensor]) -> None:
    for name in ("forward_kl", "reverse_kl", "jensen_shannon"):
        assert abs(ALL[name](single[0], single[0]).item()) < 1e-6, name


@examples
@given(distributions())
def test_merging_tokens_into_a_tail_never_raises_a_divergence(pair: list[Tensor]) -> None:
    expert, student = pair
    merged = [
        torch.cat([each[:1], torch.logsumexp(each[1:], dim=0, keepdim=True)]) for each in pair
    ]
    for name in ("forward_kl", "reverse_kl", "jensen_shannon"):
        # Masses here are far above the floor, whose effect would be below 1e-7 anyway.
        assert ALL[name](*merged) <= ALL[name](expert, student) + 1e-7, name


@examples
@given(
    distributions(full_support=False),
    st.lists(st.floats(-1e5, 1e5), min_size=1, max_size=3),
)
def test_padding_buckets_change_nothing(pair: list[Tensor], padding: list[float]) -> None:
    expert, student = pair[0], torch.log_softmax(pair[1].clamp(min=-20), dim=-1)
    wide_expert = torch.cat([expert, torch.full((len(padding),), -INF, dtype=torch.float64)])
    wide_student = torch.cat([student, torch.tensor(padding, dtype=torch.float64)])
    wide_student.requires_grad_(True)
    for name, divergence in ALL.items():
        value = divergence(wide_expert, wide_student)
        torch.testing.assert_close(value, divergence(expert, student), msg=name)
        (gradient,) = torch.autograd.grad(value, wide_student)
        assert (gradient[len(expert) :] == 0).all(), name


@pytest.mark.parametrize("student_value", [-INF, -1e30, -1e5, 0.0, 1e5])
@pytest.mark.parametrize("name", ALL)
def test_without_expert_mass_a_bucket_is_never_read(name: str, student_value: float) -> None:
    student = torch.tensor([math.log(0.4), math.log(0.6), student_value], dtype=torch.float64)
    student.requires_grad_(True)
    value = ALL[name](logs(0.3, 0.7, 0.0), student)
    (gradient,) = torch.autograd.grad(value, student)
    torch.testing.assert_close(value.detach(), ALL[name](logs(0.3, 0.7), logs(0.4, 0.6)))
    assert torch.isfinite(gradient).all()
    assert gradient[2] == 0


@pytest.mark.parametrize("name", ["reverse_kl", "jensen_shannon"])
def test_a_student_without_mass_costs_finitely(name: str) -> None:
    student = torch.tensor([0.0, -INF], dtype=torch.float64, requires_grad=True)
    value = ALL[name](logs(0.5, 0.5), student)
    (gradient,) = torch.autograd.grad(value, student)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


def test_forward_cross_entropy_is_infinite_where_the_student_lacks_what_the_expert_needs() -> None:
    student = torch.tensor([0.0, -INF], dtype=torch.float64)
    assert forward_cross_entropy(logs(0.5, 0.5), student) == INF


def test_reverse_kl_charges_the_floor_outside_the_expert() -> None:
    value = reverse_kl_divergence(logs(0.6, 0.3, 0.1), logs(1.0, 0.0, 0.0), FLOOR)
    expected = 0.6 * math.log(0.6) + 0.4 * math.log(0.4 / FLOOR)
    assert value.item() == pytest.approx(expected, rel=1e-12)


def test_jensen_shannon_outside_the_expert_is_linear_and_bounded() -> None:
    value = jensen_shannon_divergence(logs(1.0, 0.0), logs(1e-300, 1.0), 0.5)
    assert value.item() == pytest.approx(math.log(2), rel=1e-12)


@examples
@given(distributions())
def test_jensen_shannon_tends_to_both_kl_divergences(pair: list[Tensor]) -> None:
    expert, student = (torch.log_softmax(each / 4, dim=-1) for each in pair)
    small = 1e-6
    near_forward = jensen_shannon_divergence(expert, student, small) / small
    near_reverse = jensen_shannon_divergence(expert, student, 1 - small) / small
    torch.testing.assert_close(near_forward, forward_kl(expert, student), atol=1e-3, rtol=1e-2)
    torch.testing.assert_close(
        near_reverse, reverse_kl_divergence(student, expert, FLOOR), atol=1e-3, rtol=1e-2
    )


def test_unsupported_mass_is_clamped_against_rounding() -> None:
    over = torch.tensor([math.log(0.5), math.log(0.6)], dtype=torch.float64)
    assert unsupported_student_mass(logs(0.5, 0.5), over) == 0
    assert unsupported_student_mass(logs(1.0, 0.0), logs(0.25, 0.75)).item() == pytest.approx(0.75)


@pytest.mark.parametrize("name", ALL)
def test_gradients(name: str) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    expert_logits = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    expert_logits[0, 2:4] = -INF
    expert = torch.log_softmax(expert_logits, dim=-1)

    def value(student_logits: Tensor) -> Tensor:
        return ALL[name](expert, torch.log_softmax(student_logits, dim=-1))

    assert torch.autograd.gradcheck(value, (logits,))
