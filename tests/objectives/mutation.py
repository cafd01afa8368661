"""Production source, changed one snippet at a time, and checkers that must notice."""

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest
import torch
from naive_reference import Naive
from objective_batches import random_batch, with_leaves
from torch import Tensor

from distil_core.objectives import OBJECTIVES
from distil_core.objectives.base import ObjectiveBatch
from distil_core.theory import monotonic_improvement, unbiased_gradient


@dataclass(frozen=True)
class Mutation:
    """holds: a checker that passes on production. function: of production, in whose source
    `original` occurs once and is replaced by `mutant`."""

    name: str
    holds: Callable[[], bool]
    function: Callable[..., Any]
    original: str
    mutant: str

    def require_caught(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Run the checker on the mutant, which must not pass."""
        source = textwrap.dedent(inspect.getsource(self.function))
        assert source.count(self.original) == 1, "the mutated snippet must be there, once"
        namespace: dict[str, Any] = {}
        changed = source.replace(self.original, self.mutant)
        function: Any = self.function
        exec(changed, function.__globals__, namespace)
        # In place, so that every module that imported the function runs the mutant.
        monkeypatch.setattr(function, "__code__", namespace[function.__name__].__code__)
        assert not self.holds()


def fact_1_holds() -> bool:
    return unbiased_gradient.verify().passed


def fact_2_holds() -> bool:
    return monotonic_improvement.verify(num_random=200).passed


def forward_holds() -> bool:
    """Loss and gradient against the loop over docs/method.md#objective, at options where every
    term acts."""
    options = {
        "discount": 0.7,
        "horizon": 3,
        "cost": "kl_divergence",
        "baseline": "leave_one_out",
        "advantage_normalisation": "standard_deviation",
        "is_clip": 1.5,
        "loss_normalisation": "tokens",
    }
    variants: list[dict[str, Any]] = [
        {},
        {"baseline": "group_mean"},
        {"loss_normalisation": "rollouts", "weight": 0.3},
        # A common factor would not be seen behind the division by the deviation.
        {"advantage_normalisation": "none"},
        {"advantage_normalisation": "none", "horizon": 2, "baseline": "none"},
    ]
    return all(
        _forward_is_formula(options | changed, random_batch(seed, rows=8))
        for seed, changed in enumerate(variants)
    )


def others_hold() -> bool:
    """Every other objective's loss against its loop, and which inputs take part in the gradient."""
    tokens = {"loss_normalisation": "tokens"}
    return all(
        _reverse_kl_is_formula(batch)
        and _jensen_shannon_is_formula(batch)
        and _sampled_reverse_kl_is_formula(batch)
        and _grpo_is_formula({"clip_low": 0.1, "clip_high": 0.3}, batch)
        and _grpo_is_formula({"advantage_normalisation": "none"} | tokens, batch)
        and _cloning_is_formula(batch)
        and _blend_is_formula(batch)
        for batch in (random_batch(seed, rows=8) for seed in range(5))
    )


def renormalises() -> bool:
    """A mass that is 1 only within rounding trains as the distribution it means."""
    batch = random_batch(6)
    over = replace(batch, expert_bucket_logprobs_btk=batch.expert_bucket_logprobs_btk + 5e-3)
    found, expected = (_production("forward_cross_entropy", {}, each)[0] for each in (over, batch))
    return _close(found, expected)


def expert_rows_hold() -> bool:
    """Rows that the expert wrote: local term only, weight 1, whatever their sampler's values."""
    batch = random_batch(3, rows=8)
    by_expert_b = torch.arange(8) % 2 == 0
    mixed = replace(batch, by_expert_b=by_expert_b)
    _, student, sampled = _production("forward_cross_entropy", {"baseline": "none"}, mixed)
    on_policy = replace(batch, behaviour_logprobs_bt=batch.sampled_logprobs_bt)
    _, plain, _ = _production("forward_cross_entropy", {"baseline": "none"}, on_policy)
    return not sampled[by_expert_b].any() and torch.equal(student[by_expert_b], plain[by_expert_b])


def _forward_is_formula(options: dict[str, Any], batch: ObjectiveBatch) -> bool:
    resolved = OBJECTIVES.options("forward_cross_entropy", options).model_dump()
    naive = Naive(batch)
    local, credit = naive.forward_gradients(resolved)
    loss, student, sampled = _production("forward_cross_entropy", options, batch)
    return (
        _close(loss, naive.forward_cross_entropy(resolved))
        and torch.allclose(student, torch.tensor(local, dtype=torch.float64), rtol=1e-9, atol=1e-10)
        and torch.allclose(
            sampled, torch.tensor(credit, dtype=torch.float64), rtol=1e-9, atol=1e-10
        )
    )


def _reverse_kl_is_formula(batch: ObjectiveBatch) -> bool:
    naive, options = Naive(batch), {"loss_normalisation": "rollouts", "is_clip": 1.5}
    loss, student, sampled = _production("reverse_kl", {"is_clip": 1.5}, batch)
    expected = naive.local_loss(lambda b, t: naive.reverse_kl(b, t, 1e-8), options)
    return _close(loss, expected) and bool(student.any()) and not sampled.any()


def _jensen_shannon_is_formula(batch: ObjectiveBatch) -> bool:
    naive, options = Naive(batch), {"loss_normalisation": "rollouts", "is_clip": 1.5}
    loss, student, sampled = _production(
        "jensen_shannon", {"expert_weight": 0.3, "is_clip": 1.5}, batch
    )
    expected = naive.local_loss(lambda b, t: naive.jensen_shannon(b, t, 0.3), options)
    return _close(loss, expected) and bool(student.any()) and not sampled.any()


def _sampled_reverse_kl_is_formula(batch: ObjectiveBatch) -> bool:
    naive, options = Naive(batch), {"loss_normalisation": "rollouts", "is_clip": 1.5}
    loss, student, sampled = _production("sampled_reverse_kl", {"is_clip": 1.5}, batch)
    expected = naive.local_loss(
        lambda b, t: naive.sampled_log_ratio(b, t, 1e-8) * naive.sampled[b][t], options
    )
    return _close(loss, expected) and bool(sampled.any()) and not student.any()


def _grpo_is_formula(options: dict[str, Any], batch: ObjectiveBatch) -> bool:
    resolved = OBJECTIVES.options("grpo", options).model_dump()
    loss, student, sampled = _production("grpo", options, batch)
    return _close(loss, Naive(batch).grpo(resolved)) and bool(sampled.any()) and not student.any()


def _cloning_is_formula(batch: ObjectiveBatch) -> bool:
    naive = Naive(batch)
    loss, _, sampled = _production("behaviour_cloning", {}, batch)
    expected = naive.local_loss(naive.label_cost, {"loss_normalisation": "rollouts"})
    return _close(loss, expected) and not sampled.any()


def _blend_is_formula(batch: ObjectiveBatch) -> bool:
    naive = Naive(batch)
    forward = OBJECTIVES.options("forward_cross_entropy", {}).model_dump()
    grpo = OBJECTIVES.options("grpo", {}).model_dump()
    loss, _, _ = _production("blend", {"reward_weight": 0.2}, batch)
    return _close(loss, 0.8 * naive.forward_cross_entropy(forward) + 0.2 * naive.grpo(grpo))


def _production(
    name: str, options: dict[str, Any], batch: ObjectiveBatch
) -> tuple[float, Tensor, Tensor]:
    """Loss, and its gradients by the student's buckets and by the sampled tokens."""
    leaves, student, sampled = with_leaves(batch)
    loss: Tensor = OBJECTIVES.build(name, options)(leaves).loss
    torch.autograd.backward(loss)
    gradients = [torch.zeros_like(x) if x.grad is None else x.grad for x in (student, sampled)]
    return loss.item(), *cast(tuple[Tensor, Tensor], tuple(gradients))


def _close(found: float, expected: float) -> bool:
    return abs(found - expected) < 1e-9
