"""Drawing a token: exactly the distribution that is written down (2 s)."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from distil_core.engines._sampling import (
    cumulative_mass,
    draw,
    mass_before,
    normalised_logprobs,
    sampling_logprobs,
)
from distil_core.errors import EngineError

logit_rows = st.lists(st.floats(-30, 30), min_size=1, max_size=12)
FIRST_ROW = torch.zeros(1, dtype=torch.int64)


def double(values: list[float]) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def nucleus_by_numpy(logits: list[float], temperature: float, top_p: float) -> np.ndarray:
    """Temperature, then the fewest most likely tokens that reach `top_p`, one by one."""
    scaled = np.array(logits) / temperature
    masses = np.exp(scaled - scaled.max())
    masses /= masses.sum()
    kept, total = [], 0.0
    for token in sorted(range(len(masses)), key=lambda token: (-masses[token], token)):
        kept.append(token)
        total += masses[token]
        if total >= top_p:
            break
    result = np.zeros(len(masses))
    result[kept] = masses[kept] / masses[kept].sum()
    return result


@given(logit_rows, st.floats(0.05, 5), st.floats(0.01, 1))
def test_the_distribution_against_an_independent_one(
    logits: list[float], temperature: float, top_p: float
) -> None:
    found = sampling_logprobs(double(logits), temperature, top_p).exp()[0].numpy()
    expected = nucleus_by_numpy(logits, temperature, top_p)
    if (found > 0).sum() != (expected > 0).sum():
        # Only where the mass reaches top_p within rounding may the two disagree on one token.
        masses = np.sort(nucleus_by_numpy(logits, temperature, 1.0))[::-1].cumsum()
        assert np.abs(masses - top_p).min() < 1e-12
        return
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-300)


def test_temperature_divides_the_logits() -> None:
    logits = double([0.0, 1.0, 3.0])
    for temperature in (0.5, 1.0, 2.0):
        expected = torch.softmax(logits / temperature, -1)
        found = sampling_logprobs(logits, temperature, 1.0).exp()
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    cold = sampling_logprobs(logits, 1e-3, 1.0).exp()
    assert cold[0].tolist() == [0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [(1e-9, 1), (0.4, 1), (0.5, 1), (0.500001, 2), (0.75, 2), (0.76, 3), (1.0, 4)],
)
def test_the_nucleus_is_the_fewest_tokens_that_reach_top_p(top_p: float, kept: int) -> None:
    logits = double([math.log(mass) for mass in (0.125, 0.5, 0.125, 0.25)])
    found = sampling_logprobs(logits, 1.0, top_p)[0]
    assert int(torch.isfinite(found).sum()) == kept
    assert found.exp().sum().item() == pytest.approx(1, abs=1e-15)


def test_draws_follow_the_distribution_exactly() -> None:
    """A fine grid of uniforms instead of random ones: each token gets its share of the grid."""
    masses = [0.125, 0.0, 0.5, 0.0625, 0.3125, 0.0]
    size = 1024
    logprobs = double([math.log(mass) if mass else -math.inf for mass in masses])
    uniforms = torch.arange(size, dtype=torch.float64) / size
    tokens = draw(logprobs, uniforms, FIRST_ROW.expand(size))
    assert torch.bincount(tokens, minlength=6).tolist() == [mass * size for mass in masses]
    assert tokens.tolist() == sorted(tokens.tolist())


@given(logit_rows)
def test_draws_follow_any_distribution(logits: list[float]) -> None:
    size = 2000
    logprobs = sampling_logprobs(double(logits), 1.0, 1.0)
    uniforms = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    shares = (
        torch.bincount(draw(logprobs, uniforms, FIRST_ROW.expand(size)), minlength=len(logits))
        / size
    )
    assert (shares - logprobs[0].exp()).abs().max() <= 1 / size


@given(logit_rows, st.floats(0.01, 1), st.sampled_from([0.0, 0.5, 1 - 2**-53, 1 - 2**-24]))
def test_only_tokens_with_mass_are_drawn(logits: list[float], top_p: float, uniform: float) -> None:
    """At the ends too: 0 is not before the first, 1 - 2^-53 not beyond the last."""
    logprobs = sampling_logprobs(double(logits), 1.0, top_p)
    (token,) = draw(logprobs, torch.tensor([uniform], dtype=torch.float64), FIRST_ROW).tolist()
    assert 0 <= token < len(logits)
    assert logprobs[0, token] > -math.inf


def test_each_draw_is_from_its_own_row() -> None:
    logprobs = torch.stack([double([0.0, -math.inf])[0], double([-math.inf, 0.0])[0]])
    rows = torch.tensor([1, 0, 0, 1, 1])
    assert (
        draw(logprobs, torch.full((5,), 0.5, dtype=torch.float64), rows).tolist() == rows.tolist()
    )


def test_draws_of_random_numbers_pass_a_chi_square_test() -> None:
    masses = np.array([0.4, 0.3, 0.2, 0.05, 0.05])
    uniforms = torch.from_numpy(np.random.default_rng(1).random(20_000))
    logprobs = torch.from_numpy(np.log(masses))[None]
    tokens = draw(logprobs, uniforms, FIRST_ROW.expand(len(uniforms)))
    counts = torch.bincount(tokens, minlength=5).numpy()
    expected = masses * len(uniforms)
    assert ((counts - expected) ** 2 / expected).sum() < 20  # 4 degrees, p = 0.0005


@given(st.lists(st.floats(-40, 0), min_size=1, max_size=30), st.randoms())
def test_sums_do_not_depend_on_the_order_of_adding(logprobs: list[float], random: object) -> None:
    """What lets a GPU add in any order and still repeat every draw."""
    total = cumulative_mass(double(logprobs))[0, -1].item()
    shuffled = list(logprobs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert cumulative_mass(double(shuffled))[0, -1].item() == total
    assert total == pytest.approx(math.fsum(map(math.exp, logprobs)), abs=len(logprobs) * 2**-52)


def test_mass_before() -> None:
    logprobs = double([math.log(mass) for mass in (0.5, 0.25, 0.25)])
    assert mass_before(logprobs).tolist() == [[0.0, 0.5, 0.75]]
    assert mass_before(logprobs[:, :1]).tolist() == [[0.0]]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_no_distribution_are_refused(bad: float) -> None:
    with pytest.raises(EngineError, match="NaN or infinity"):
        sampling_logprobs(torch.tensor([[0.0, 1.0], [bad, 0.0]]), 1.0, 0.9)
    masked = normalised_logprobs(torch.tensor([[0.0, -math.inf]]))
    assert masked.tolist() == [[0.0, -math.inf]]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_it_runs_in_deterministic_mode_on_a_gpu() -> None:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        logits = torch.randn(3, 50, device="cuda")
        uniforms = torch.rand(4, device="cuda", dtype=torch.float64)
        rows = torch.tensor([2, 0, 1, 2], device="cuda")
        for top_p in (0.9, 1.0):
            on_gpu = draw(sampling_logprobs(logits, 1.0, top_p), uniforms, rows)
            on_cpu = draw(sampling_logprobs(logits.cpu(), 1.0, top_p), uniforms.cpu(), rows.cpu())
            assert on_gpu.tolist() == on_cpu.tolist()
    finally:
        torch.use_deterministic_algorithms(before)
