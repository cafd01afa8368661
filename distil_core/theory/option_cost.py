"""Fact 1, continued: the bias that each option of the estimator costs, and the spread it saves.

These are the measured reasons for the defaults of `forward_cross_entropy`. Exact: every pair of
rollouts is enumerated.
"""

import math
from typing import Any

import torch
from torch import Tensor

from distil_core.theory.enumeration import (
    exact_gradient,
    group_gradients,
    random_problem,
    relative_error,
)
from distil_core.theory.table import Row, Table, at_most, unchecked
from distil_core.theory.unbiased_gradient import TOLERANCE, production

_ON_POLICY: dict[str, dict[str, Any]] = {
    "baseline none": {"baseline": "none"},
    "baseline group_mean": {"baseline": "group_mean"},
    "weight 0 (local only)": {"weight": 0.0},
    "weight 0.3": {"weight": 0.3},
    "discount 0.5": {"discount": 0.5},
    "horizon 1": {"horizon": 1},
    "cost kl_divergence": {"cost": "kl_divergence"},
    "advantage over standard_deviation": {"advantage_normalisation": "standard_deviation"},
    "loss over tokens": {"loss_normalisation": "tokens"},
}
_CLIPS = (1.0, 2.0, 5.0, math.inf)


def measure(seeds: tuple[int, ...] = (0, 1, 2), staleness: float = 0.5) -> Table:
    """Bias and spread of every option: on policy, and with a sampler that is `staleness` away."""
    rows = _rows("defaults", {}, seeds, 0.0, exact=True)
    for name, options in _ON_POLICY.items():
        rows += _rows(name, options, seeds, 0.0)
    for clip in _CLIPS:
        rows += _rows(f"stale sampler, is_clip {clip:g}", {"is_clip": clip}, seeds, staleness)
    return Table(
        "1b. What each option costs",
        "One batch of two rollouts, relative to |grad L|, mean over random problems.\n"
        "g is scaled so that E[g] fits grad L best: only the direction counts.\n"
        "bias: |E[g] - grad L|. spread: root of E|g - E[g]|^2.",
        rows,
    )


def _rows(
    name: str,
    options: dict[str, Any],
    seeds: tuple[int, ...],
    staleness: float,
    exact: bool = False,
) -> list[Row]:
    measured = torch.tensor([_bias_and_spread(options, seed, staleness) for seed in seeds])
    bias, spread = measured.mean(dim=0).tolist()
    label = f"{name}: bias"
    return [
        at_most(label, bias, TOLERANCE) if exact else unchecked(label, bias),
        unchecked(f"{name}: spread", spread),
    ]


def _bias_and_spread(options: dict[str, Any], seed: int, staleness: float) -> tuple[float, float]:
    world, parameters_dv = random_problem(seed)
    truth_p = exact_gradient(world, parameters_dv)
    probabilities_g, gradients_gp = group_gradients(
        production(options), world, parameters_dv, 2, _sampler_dv(parameters_dv, seed, staleness)
    )
    mean_p = probabilities_g @ gradients_gp
    scale = float(truth_p @ mean_p / (mean_p @ mean_p))
    variance = float(probabilities_g @ ((gradients_gp - mean_p) ** 2).sum(-1)) * scale**2
    spread = variance**0.5 / float(torch.linalg.vector_norm(truth_p))
    return relative_error(scale * mean_p, truth_p), spread


def _sampler_dv(parameters_dv: Tensor, seed: int, staleness: float) -> Tensor:
    generator = torch.Generator().manual_seed(1000 + seed)
    noise_dv = torch.randn(parameters_dv.shape, generator=generator, dtype=torch.float64)
    return parameters_dv + staleness * noise_dv
