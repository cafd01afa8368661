"""Each fact of docs/method.md#facts holds, and its checker can fail."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from distil_core.theory import (
    __main__,
    monotonic_improvement,
    no_regret,
    option_cost,
    success_bound,
    tokenwise_not_enough,
    turn_rewards,
    turns,
    unbiased_gradient,
)
from distil_core.theory.enumeration import (
    exact_gradient,
    exact_loss,
    group_gradients,
    problem,
    random_problem,
)
from distil_core.theory.table import Row, Table, at_least, at_most, equal, render, unchecked


def values(table: Table) -> dict[str, float]:
    return {row.check.strip(): row.computed for row in table.rows}


def test_fact_1_on_another_problem() -> None:
    table = unbiased_gradient.verify(seed=5)
    assert table.passed, render(table)


def test_fact_1_option_costs() -> None:
    table = option_cost.measure(seeds=(1,))
    assert table.passed, render(table)
    found = values(table)
    assert found["defaults: spread"] < found["baseline none: spread"]
    assert found["stale sampler, is_clip 2: spread"] < found["stale sampler, is_clip inf: spread"]


def test_fact_2_with_both_printed_counter_examples() -> None:
    table = monotonic_improvement.verify(num_random=500, seed=3)
    assert table.passed, render(table)
    found = values(table)
    assert found["reverse_kl: dJ"] == pytest.approx(-0.19946, abs=1e-5)
    assert found["jensen_shannon: dJ"] == pytest.approx(-0.0038, abs=1e-4)


@pytest.mark.parametrize(
    "verify", [tokenwise_not_enough.verify, success_bound.verify, no_regret.verify]
)
def test_facts_3_to_5(verify: Callable[[], Table]) -> None:
    table = verify()
    assert table.passed, render(table)


def test_fact_6_on_another_problem() -> None:
    table = turns.verify(seed=5)
    assert table.passed, render(table)


@pytest.mark.parametrize(
    ("wrong", "check"),
    [
        ({"discount_per": "token"}, "discount 0.5 per turn, against its definition"),
        ({"discount_per": "turn"}, "discount 0.5 per token, against its definition"),
        ({"baseline": "group_mean"}, "leave_one_out by turn, pairs"),
        ({"weight": 0.0}, "no baseline"),
    ],
)
def test_fact_6_is_not_of_another_objective(wrong: dict[str, Any], check: str) -> None:
    def build(options: dict[str, Any]) -> Any:
        return turns.production({**options, **wrong})

    table = turns.verify(build)
    assert not table.passed
    assert check in {row.check for row in table.rows if row.passed is False}


def test_rewards_of_turns_on_another_problem() -> None:
    table = turn_rewards.verify(seed=5)
    assert table.passed, render(table)


def test_rewards_of_turns_need_their_credit() -> None:
    def build(options: dict[str, Any]) -> Any:
        return turn_rewards.production({**options, "credit": "rollout", "turn_discount": 1.0})

    failed = {row.check for row in turn_rewards.verify(build).rows if row.passed is False}
    assert failed == {
        "credit: turn, of all that is earned",
        "turn_discount 0.5, against its definition",
    }


def test_the_tools_problem_has_every_rollout_once() -> None:
    world = turns.tool_world(0)
    logprobs_sv = world.own.student_logprobs_sv(world.parameters_dv)
    probabilities_n = world.own.sequence_logprobs_n(logprobs_sv).exp()
    assert len(probabilities_n) == 7 * 7
    assert probabilities_n.sum().item() == pytest.approx(1.0, abs=1e-14)
    # What the tool wrote is in the one view alone, and answers differ in length.
    num_whole, num_own = world.whole.mask_nt.sum(1), world.own.mask_nt.sum(1)
    assert set((num_whole - num_own).tolist()) == {1, 2}
    assert (world.policys_ns & world.whole.mask_nt).sum(1).tolist() == num_own.tolist()
    for row in range(len(num_own)):
        kept = world.policys_ns[row] & world.whole.mask_nt[row]
        for name in ("states_nt", "tokens_nt", "turns_nt"):
            own = getattr(world.own, name)[row, : num_own[row]]
            assert torch.equal(own, getattr(world.whole, name)[row, kept])


def test_enumeration_covers_every_sequence_once() -> None:
    world, parameters_dv = random_problem(0)
    logprobs_n = world.sequence_logprobs_n(world.student_logprobs_sv(parameters_dv))
    assert len(logprobs_n) == 1 + 2 + 4 * 3
    assert logprobs_n.exp().sum().item() == pytest.approx(1.0, abs=1e-14)
    probabilities_g, _ = group_gradients(
        unbiased_gradient.production({}), world, parameters_dv, group_size=2
    )
    assert len(probabilities_g) == 15 * 16 // 2
    assert probabilities_g.sum().item() == pytest.approx(1.0, abs=1e-14)


def test_exact_loss_by_hand() -> None:
    """One token, then another: L = H(first) + sum_y pi(y) H(second | y)."""
    expert = torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.2, 0.8]], dtype=torch.float64)
    student = torch.tensor([[0.3, 0.7], [0.6, 0.4], [0.9, 0.1]], dtype=torch.float64)
    world = problem(None, expert.log(), max_length=2)
    by_hand = (
        -0.5 * (math.log(0.3) + math.log(0.7))
        + 0.3 * -math.log(0.6)
        + 0.7 * -(0.2 * math.log(0.9) + 0.8 * math.log(0.1))
    )
    assert exact_loss(world, student.log()).item() == pytest.approx(by_hand, rel=1e-14)


def test_exact_gradient_against_finite_differences() -> None:
    world, parameters_dv = random_problem(2, top_k=1)
    direction_dv = torch.randn(
        parameters_dv.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    step = 1e-5
    slope = (
        exact_loss(world, parameters_dv + step * direction_dv)
        - exact_loss(world, parameters_dv - step * direction_dv)
    ) / (2 * step)
    exact = exact_gradient(world, parameters_dv) @ direction_dv.flatten()
    assert slope.item() == pytest.approx(exact.item(), rel=1e-7)


def test_following_the_latest_table_is_worse() -> None:
    aggregated, latest = (no_regret.follow_the_leader(200, every) for every in (True, False))
    assert aggregated.average_regret(200) < 0.05 < latest.average_regret(200)


@pytest.mark.parametrize(
    ("row", "passed"),
    [
        (at_most("x", 1.0, 1.0), True),
        (at_most("x", math.nan, 1.0), False),
        (at_least("x", 0.9, 1.0), False),
        (at_least("x", math.nan, 1.0), False),
        (equal("x", 1.0 + 1e-12, 1.0), True),
        (equal("x", 1.001, 1.0), False),
        (equal("x", math.nan, 1.0), False),
        (unchecked("x", 1.0), None),
    ],
)
def test_verdicts_come_from_the_numbers(row: Row, passed: bool | None) -> None:
    assert row.passed is passed


def test_a_table_without_requirements_does_not_pass() -> None:
    assert not Table("t", "e", [unchecked("x", 1.0)]).passed


def test_command_prints_every_table_and_fails_with_a_fact(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def good() -> Table:
        return Table("good", "holds", [at_most("small", 1.0, 2.0)])

    def bad() -> Table:
        return Table("bad", "does not", [at_most("large", 3.0, 2.0), unchecked("other", 1.0)])

    monkeypatch.setattr(__main__, "_FACTS", (good,))
    assert __main__.main() == 0
    assert "PASS: all facts hold" in capsys.readouterr().out
    monkeypatch.setattr(__main__, "_FACTS", (good, bad))
    assert __main__.main() == 1
    printed = capsys.readouterr().out
    assert "small" in printed
    assert "FAIL: bad" in printed
