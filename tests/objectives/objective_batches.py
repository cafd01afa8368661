"""Batches for tests: random ones of every awkward shape, and the hypothesis strategy over them."""

import math
from dataclasses import replace
from typing import Any

import torch
from hypothesis import settings
from hypothesis import strategies as st

from distil_core.objectives.base import ObjectiveBatch
from distil_core.testing.objective_batches import random_batch, select_rows, with_leaves

__all__ = [
    "any_options",
    "batches",
    "everyone_trains",
    "examples",
    "random_batch",
    "select_rows",
    "with_leaves",
]

# The machine is shared, so no deadline per example; the same examples in every run.
examples = settings(deadline=None, max_examples=100, derandomize=True)


def everyone_trains(batch: ObjectiveBatch) -> ObjectiveBatch:
    """The same batch with every token trained and every row with an expert."""
    return replace(
        batch,
        response_mask_bt=torch.ones_like(batch.response_mask_bt),
        expert_mask_b=torch.ones_like(batch.expert_mask_b),
    )


@st.composite
def batches(draw: st.DrawFn) -> ObjectiveBatch:
    """Random batches in float64, the empty and the single-row ones among them."""
    return random_batch(
        draw(st.integers(0, 2**31)),
        rows=draw(st.integers(1, 6)),
        positions=draw(st.integers(1, 7)),
        tokens=draw(st.integers(1, 4)),
        padding_buckets=draw(st.integers(0, 2)),
    )


@st.composite
def any_options(draw: st.DrawFn) -> dict[str, Any]:
    """Options of `forward_cross_entropy` from every corner."""
    normalisation = draw(st.sampled_from(["rollouts", "tokens", "constant"]))
    return {
        "weight": draw(st.sampled_from([0.0, 0.3, 1.0, 2.5])),
        "discount": draw(st.sampled_from([0.0, 0.7, 1.0])),
        "horizon": draw(st.sampled_from([None, 1, 2, 3, 100])),
        "cost": draw(st.sampled_from(["cross_entropy", "kl_divergence"])),
        "baseline": draw(st.sampled_from(["none", "group_mean", "leave_one_out"])),
        "advantage_normalisation": draw(st.sampled_from(["none", "standard_deviation"])),
        "is_clip": draw(st.sampled_from([0.5, 2.0, math.inf])),
        "loss_normalisation": normalisation,
        "loss_constant": 7.0 if normalisation == "constant" else None,
    }
