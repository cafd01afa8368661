"""Settings that follow others: margins of pass@n, all problems of a file (1 s)."""

from typing import Any

import pytest

from distil_core.campaign.load import parse_params
from distil_core.errors import ConfigError


@pytest.mark.parametrize(
    ("num_samples", "margins", "expected"),
    [
        (8, {"pass_at_1": 0.02, "pass_at_n": 0.03}, {"pass_at_1": 0.02, "pass_at_8": 0.03}),
        (5, {"majority_at_n": 0.1, "pass_at_2": 0}, {"majority_at_5": 0.1, "pass_at_2": 0}),
        (1, {"pass_at_1": 0.02, "pass_at_n": 0.03}, {"pass_at_1": 0.02}),
        (1, {"pass_at_n": 0.03}, {"pass_at_1": 0.03}),
        (4, {"pass_at_4": 0.03}, {"pass_at_4": 0.03}),
    ],
)
def test_margins_of_all_samples(
    settings: dict[str, Any], num_samples: int, margins: dict[str, float], expected: dict[str, Any]
) -> None:
    settings["evaluate"] |= {"num_samples": num_samples, "num_expert_samples": 1}
    settings["gate"]["margins"] = margins
    params = parse_params(settings, "params.yaml")
    assert params.gate.margins == expected
    # What is frozen has the number.
    assert params.model_dump(mode="json")["gate"]["margins"] == expected


def test_one_score_under_two_names_is_refused(settings: dict[str, Any]) -> None:
    settings["gate"]["margins"] = {"pass_at_8": 0.02, "pass_at_n": 0.03}
    with pytest.raises(ConfigError, match="names one score twice, as pass_at_n and as pass_at_8"):
        parse_params(settings, "params.yaml")


def test_the_default_margins_follow_the_number_of_samples(settings: dict[str, Any]) -> None:
    settings["evaluate"]["num_samples"] = 4
    margins = parse_params(settings, "params.yaml").gate.margins
    assert margins == {"pass_at_1": 0.02, "pass_at_4": 0.03}


def test_all_problems(settings: dict[str, Any]) -> None:
    settings["problems"] |= {"num_train": "all", "num_eval": "all"}
    params = parse_params(settings, "params.yaml")
    assert (params.problems.num_train, params.problems.num_eval) == ("all", "all")
    settings["problems"]["num_train"] = "every"
    with pytest.raises(ConfigError, match=r"problems\.num_train: expected .*'all'.*'every'"):
        parse_params(settings, "params.yaml")
