"""The figures of metrics.json, by hand (1 s)."""

import json
from typing import Any

import pytest

from distil_core.evaluation.learning_curve import pass_at_ks
from distil_core.evaluation.summary import summarise


def row(correct: int, malformed: int = 0, truncated: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "problem_id": "a",
        "num_samples": 4,
        "num_correct": correct,
        "num_malformed": malformed,
        "num_truncated": truncated,
        "num_distinct": 2,
        "response_tokens_mean": 6.0,
        "first_response": "x",
        **changes,
    }


ROWS = [
    row(4, num_distinct=1, response_tokens_mean=5.0),
    row(1, malformed=2),
    row(0, malformed=1, truncated=3, num_distinct=4, response_tokens_mean=8.0),
]


def test_figures_by_hand() -> None:
    found = summarise(ROWS, num_bootstrap=100, seed=1)
    expected = {
        "num_problems": 3,
        "num_samples": 4,
        "pass_at_1": (1 + 1 / 4 + 0) / 3,
        "pass_at_2": (1 + 1 / 2 + 0) / 3,
        "pass_at_4": 2 / 3,
        "malformed_rate": 3 / 12,
        "truncation_rate": 3 / 12,
        "distinct_responses_mean": 7 / 3,
        "response_tokens_mean": 19 / 3,
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-12), name
    ends = {f"pass_at_{k}_{end}" for k in (1, 2, 4) for end in ("low", "high")}
    assert expected.keys() | ends <= found.keys()
    for k in (1, 2, 4):
        assert 0 <= found[f"pass_at_{k}_low"] <= found[f"pass_at_{k}"]
        assert found[f"pass_at_{k}"] <= found[f"pass_at_{k}_high"] <= 1


def test_it_is_the_same_each_time_and_plain_json() -> None:
    first = json.dumps(summarise(ROWS, 100, 1))
    assert json.dumps(summarise(ROWS, 100, 1)) == first
    assert json.loads(first)["num_problems"] == 3
    assert "NaN" not in first


def test_the_learning_curve_finds_its_figures() -> None:
    assert pass_at_ks(summarise(ROWS, 100, 1)) == [1, 2, 4]


@pytest.mark.parametrize("correct", [0, 4])
def test_all_wrong_and_all_right(correct: int) -> None:
    found = summarise([row(correct)] * 5, 100, 1)
    for k in (1, 2, 4):
        ends = {found[f"pass_at_{k}{end}"] for end in ("", "_low", "_high")}
        assert ends == {correct / 4}
