"""The figures of metrics.json, by hand (1 s)."""

import json
import math
from typing import Any

import numpy as np
import pytest
from evaluation_rows import row, rows

from distil_core.evaluation.learning_curve import pass_at_ks
from distil_core.evaluation.summary import pass_at_k_csv, summarise

ROWS = [
    row(4, num_distinct=1, num_distinct_answers=1, response_tokens_mean=5.0),
    row(1, num_malformed=2, entropy_per_token=0.5),
    row(0, num_malformed=1, num_truncated=3, num_distinct=4, response_tokens_mean=8.0),
]


def test_figures_by_hand() -> None:
    found = summarise(ROWS, num_bootstrap=100, seed=1)
    expected = {
        "num_problems": 3,
        "num_samples": 4,
        "pass_at_1": (1 + 1 / 4 + 0) / 3,
        "pass_at_2": (1 + 1 / 2 + 0) / 3,
        "pass_at_4": 2 / 3,
        "mean_at_4": (1 + 1 / 4 + 0) / 3,
        "majority_at_4": 1 / 3,
        "malformed_rate": 3 / 12,
        "truncation_rate": 3 / 12,
        "distinct_responses_mean": 7 / 3,
        "distinct_answers_mean": 5 / 3,
        "response_tokens_mean": 19 / 3,
        "entropy_per_response": 1.2,
        "entropy_per_token": 0.3,
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-12), name
    intervals = [name.removesuffix("_low") for name in found if name.endswith("_low")]
    assert {f"pass_at_{k}" for k in (1, 2, 4)} < set(intervals)
    assert found.keys() == expected.keys() | {
        f"{name}_{end}" for name in intervals for end in ("low", "high")
    }
    for name in intervals:
        assert found[f"{name}_low"] <= found[name] <= found[f"{name}_high"]
    assert pass_at_k_csv(found).splitlines()[0] == "k,pass_at_k,low,high"
    assert pass_at_k_csv(found).splitlines()[3].startswith("4,0.66666")


def test_it_is_the_same_each_time_and_plain_json() -> None:
    first = json.dumps(summarise(ROWS, 100, 1))
    assert json.dumps(summarise(ROWS, 100, 1)) == first
    assert json.loads(first)["num_problems"] == 3
    assert "NaN" not in first


def test_the_learning_curve_finds_its_figures() -> None:
    assert pass_at_ks(summarise([*ROWS, row(2, split="generalisation")], 100, 1)) == [1, 2, 4]


@pytest.mark.parametrize("correct", [0, 4])
def test_all_wrong_and_all_right(correct: int) -> None:
    found = summarise([row(correct)] * 5, 100, 1)
    for k in (1, 2, 4):
        ends = {found[f"pass_at_{k}{end}"] for end in ("", "_low", "_high")}
        assert ends == {correct / 4}


def test_the_generalisation_split_stands_apart() -> None:
    harder = rows([1, 0], split="generalisation", response_tokens_mean=9.0)
    found = summarise([*ROWS, *harder], 100, 1)
    assert found["generalisation_num_problems"] == 2
    assert found["generalisation_pass_at_1"] == pytest.approx(1 / 8)
    assert found["generalisation_response_tokens_mean"] == 9.0
    alone = summarise(ROWS, 100, 1)
    assert {name: found[name] for name in alone} == alone


def asked(correct: int, of: int, student: float, expert: float, **changes: Any) -> dict[str, Any]:
    return {
        "expert_num_samples": of,
        "expert_num_correct": correct,
        "expert_success_student_logprob": student,
        "expert_success_logprob": expert,
        **changes,
    }


def test_the_experts_figures_are_over_the_problems_it_was_asked_on() -> None:
    table = [
        row(2, **asked(2, 2, -3.0, -1.0)),
        row(0, **asked(1, 2, -2.0, -0.5)),
        row(4),  # no feedback, nothing to say
    ]
    found = summarise(table, 200, 1)
    assert found["expert_num_problems"] == 2
    assert found["expert_accuracy"] == pytest.approx(0.75)
    assert found["expert_gain"] == pytest.approx(0.75 - (0.5 + 0) / 2)
    assert found["success_loglikelihood"] == pytest.approx(-5 / 3)
    assert found["success_bound"] == pytest.approx((-5 + 1.5) / 3 + math.log(3 / 4))
    assert "expert_accuracy" not in summarise([row(2), row(1)], 100, 1)


def test_an_expert_without_success_has_no_bound() -> None:
    found = summarise([row(2, **asked(0, 2, 0.0, 0.0))] * 3, 100, 1)
    assert found["expert_accuracy"] == 0
    assert "success_bound" not in found


def test_the_bound_is_below_log_success_exactly() -> None:
    """A two-token world where every response can be listed: expectations instead of samples."""
    random = np.random.default_rng(5)
    for _ in range(50):
        student = random.dirichlet(np.ones(6), size=3)  # pi(y | x)
        expert = random.dirichlet(np.ones(6), size=3)
        is_right = np.array([1, 0, 0, 1, 0, 0], dtype=bool)
        weight = expert[:, is_right]
        ratio = (weight * (np.log(student) - np.log(expert))[:, is_right]).sum()
        bound = ratio / weight.sum() + np.log(weight.sum() / 3)
        assert bound <= np.log(student[:, is_right].sum() / 3) + 1e-12
        table = [
            row(
                1,
                expert_num_samples=1.0,
                expert_num_correct=weight[x].sum(),
                expert_success_student_logprob=(weight[x] * np.log(student[x, is_right])).sum(),
                expert_success_logprob=(weight[x] * np.log(expert[x, is_right])).sum(),
            )
            for x in range(3)
        ]
        assert summarise(table, 100, 1)["success_bound"] == pytest.approx(bound, abs=1e-12)
