"""The gate: paired differences, its decision by enumeration, and what it hands over (2 s)."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_rows import rows
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from distil_core.config.models import AlarmParams, GateParams
from distil_core.errors import DataError, GateError
from distil_core.evaluation.better_expert import ExpertGain
from distil_core.evaluation.bootstrap import interval, resampled_means
from distil_core.evaluation.comparison import Difference, other_sampler, paired_differences
from distil_core.evaluation.decision import GateDecision, read_decision, write_decision
from distil_core.evaluation.gate import judge_policy
from distil_core.evaluation.handover import forbid_next, hand_over, require_policy
from distil_core.evaluation.pass_at_k import pass_at_k, powers_of_two_up_to
from distil_core.evaluation.summary import columns_of, evaluation_frame
from distil_core.workspace import Workspace

OFF = AlarmParams(min_entropy_ratio=None, max_length_ratio=None, pass_at_n_fell=False)


def interval_of_mean(
    values_p: NDArray[np.float64], num_bootstrap: int, seed: int
) -> tuple[float, float]:
    return interval(resampled_means(values_p[:, None], num_bootstrap, seed)[:, 0])


def gate(margin: float = 0.02, alarms: AlarmParams = OFF) -> GateParams:
    return GateParams(margins={"pass_at_1": margin}, on_regression="keep", alarms=alarms)


def columns(corrects: list[int], **changes: Any) -> dict[str, Any]:
    return columns_of(evaluation_frame(rows(corrects, **changes)))


SAME = columns([2, 2])


def test_differences_are_paired_by_problem_whatever_the_order() -> None:
    random = np.random.default_rng(0)
    old_counts = random.integers(0, 4, 200).tolist()
    new_counts = [count + 1 for count in old_counts]
    new, old = rows(new_counts), rows(old_counts)
    found = paired_differences(
        columns_of(evaluation_frame(new)), columns_of(evaluation_frame(old[::-1])), 300, 1
    )
    # Every problem gained the same: no uncertainty is left, though scores vary between problems.
    assert found["pass_at_1"] == Difference(0.25, 0.25, 0.25)
    assert found.keys() == {"pass_at_1", "pass_at_2", "pass_at_4", "majority_at_4"}
    low, high = interval_of_mean(np.array(new_counts) / 4, 300, 1)
    assert high - low > 0.05


def test_a_difference_is_resampled_like_the_scores_it_is_between() -> None:
    random = np.random.default_rng(1)
    new, old = (columns(random.integers(0, 5, 80).tolist()) for _ in range(2))
    values = (new["num_correct"] - old["num_correct"]) / 4
    found = paired_differences(new, old, 400, 7)["pass_at_1"]
    assert (found.low, found.high) == pytest.approx(interval_of_mean(values, 400, 7))
    assert found.value == pytest.approx(values.mean())


@pytest.mark.parametrize(("new_n", "old_n"), [(16, 8), (8, 16), (6, 16), (16, 6), (1, 8)])
def test_evaluations_of_other_numbers_of_samples(new_n: int, old_n: int) -> None:
    """pass@k is unbiased from either: they are compared up to the fewer samples."""
    new = columns([new_n // 2, new_n], num_samples=new_n)
    old = columns([old_n // 2, 0], num_samples=old_n)
    fewest = min(new_n, old_n)
    found = paired_differences(new, old, 200, 0)
    ks = powers_of_two_up_to(fewest)
    assert list(found) == [f"pass_at_{k}" for k in ks]
    for k in ks:
        first, second = (
            pass_at_k(each["num_correct"].astype(np.int64), n, k)
            for each, n in ((new, new_n), (old, old_n))
        )
        assert found[f"pass_at_{k}"].value == pytest.approx((first - second).mean())
    margins = {"pass_at_1": 1.0, "pass_at_16": 0.03, f"majority_at_{new_n}": 0.5}
    alarms = AlarmParams(min_entropy_ratio=None, max_length_ratio=None, pass_at_n_fell=True)
    params = GateParams(margins=margins, on_regression="keep", alarms=alarms)
    verdict = judge_policy(new, old, found, params)
    assert [reason.partition(":")[0] for reason in verdict.reasons] == [
        "pass_at_16 cannot be compared",
        f"majority_at_{new_n} cannot be compared",
    ]
    assert f"{new_n} samples of each problem, the champion's {old_n}" in verdict.reasons[0]


def test_the_alarm_looks_at_the_samples_that_both_have() -> None:
    alarms = AlarmParams(min_entropy_ratio=None, max_length_ratio=None, pass_at_n_fell=True)
    new, old = columns([0] * 30, num_samples=8), columns([4] * 30, num_samples=4)
    found = paired_differences(new, old, 200, 0)
    verdict = judge_policy(new, old, found, gate(1.0, alarms))
    assert verdict.reasons == (
        "alarm: fewer problems are solved by any sample, pass_at_4 -1.000 (-1.000 to -1.000)",
    )


def test_less_than_one_problem_is_no_alarm() -> None:
    """Half of 16 right and half of 8 right is the same share; pass@8 is less by 1/12870 each."""
    alarms = AlarmParams(min_entropy_ratio=None, max_length_ratio=None, pass_at_n_fell=True)
    new, old = columns([8] * 20, num_samples=16), columns([4] * 20, num_samples=8)
    found = paired_differences(new, old, 200, 0)
    assert -0.001 < found["pass_at_8"].high < 0
    assert judge_policy(new, old, found, gate(0.0, alarms)).is_promoted


def test_another_sampler_is_told() -> None:
    one = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 8, "num_samples": 8}
    assert other_sampler(one, one | {"num_samples": 16, "num_bootstrap": 9}) is None
    assert other_sampler(one, {}) is None
    for name, value in (("temperature", 0.2), ("top_p", 0.9), ("max_new_tokens", 9)):
        assert other_sampler(one | {name: value}, one) == f"{name} {value} instead of {one[name]}"
    verdict = judge_policy(SAME, SAME, {"pass_at_1": Difference(0, 0, 0)}, gate(), ["another"])
    assert verdict.reasons == ("another",)


def test_other_problems_are_refused() -> None:
    with pytest.raises(DataError, match="not of the same problems"):
        paired_differences(columns([1, 2]), columns([1]), 100, 1)
    other = columns_of(evaluation_frame([replace(row, problem_id="z") for row in rows([1, 2])]))
    with pytest.raises(DataError, match="not of the same problems"):
        paired_differences(columns([1, 2]), other, 100, 1)


ends = st.floats(-1, 1)


@given(st.lists(ends, min_size=3, max_size=3).map(sorted), st.floats(0, 1))
def test_promoted_exactly_when_the_interval_stays_above_the_margin(
    ordered: list[float], margin: float
) -> None:
    low, value, high = ordered
    verdict = judge_policy(SAME, SAME, {"pass_at_1": Difference(value, low, high)}, gate(margin))
    assert verdict.is_promoted == (low >= -margin)
    if not verdict.is_promoted:
        (reason,) = verdict.reasons
        assert reason.startswith("pass_at_1 ")
        assert ("these problems do not tell" in reason) == (high >= 0)


def test_each_score_with_a_margin_has_a_say() -> None:
    params = GateParams(
        margins={"pass_at_1": 0.02, "pass_at_4": 0.1}, on_regression="keep", alarms=OFF
    )
    good, bad = Difference(0.0, -0.01, 0.01), Difference(-0.3, -0.4, -0.2)
    for first, second in itertools.product((good, bad), repeat=2):
        differences = {"pass_at_1": first, "pass_at_4": second}
        verdict = judge_policy(SAME, SAME, differences, params)
        assert verdict.is_promoted == (first is good and second is good)
        assert len(verdict.reasons) == (first is bad) + (second is bad)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"entropy_per_response": 0.02}, "entropy fell to 0.02"),
        ({"entropy_per_response": 0.12}, None),
        ({"response_tokens_mean": 12.5}, "times longer"),
        ({"response_tokens_mean": 2.9}, "times shorter"),
        ({"response_tokens_mean": 3.0}, None),
        ({}, None),
    ],
)
def test_alarms(changes: dict[str, float], word: str | None) -> None:
    alarms = AlarmParams(min_entropy_ratio=0.1, max_length_ratio=2.0, pass_at_n_fell=True)
    better = {"pass_at_1": Difference(0.5, 0.4, 0.6), "pass_at_4": Difference(0, -0.1, 0.1)}
    new = columns([4, 4], **changes)
    verdict = judge_policy(new, SAME, better, gate(alarms=alarms))
    assert verdict.is_promoted == (word is None)
    assert word is None or word in verdict.reasons[0]
    assert judge_policy(new, SAME, better, gate()).is_promoted


def test_fewer_problems_solved_at_all_is_an_alarm() -> None:
    alarms = AlarmParams(min_entropy_ratio=None, max_length_ratio=None, pass_at_n_fell=True)
    differences = {
        "pass_at_1": Difference(0.2, 0.1, 0.3),
        "pass_at_4": Difference(-0.1, -0.15, -0.05),
    }
    verdict = judge_policy(SAME, SAME, differences, gate(alarms=alarms))
    assert verdict.reasons[0].startswith("alarm: fewer problems are solved by any sample")


def test_a_decision_is_read_back(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    decision = GateDecision(
        iteration=2,
        promoted=False,
        stopped=True,
        champion=1,
        handed_over=1,
        parent=1,
        compared_with=1,
        reasons="worse",
        from_champion={"pass_at_1": Difference(-0.1, -0.2, 0.0)},
        from_parent={"pass_at_1": Difference(-0.1, -0.2, 0.0)},
    )
    write_decision(workspace, decision)
    assert read_decision(workspace, 2) == decision
    assert decision.figures()["from_parent/pass_at_1_low"] == -0.2
    assert json.loads(workspace.decision_file(2).read_text())["promoted"] == 0
    assert "expert" not in json.loads(workspace.decision_file(2).read_text())
    beside = Difference(0.2, 0.1, 0.3)
    better = ExpertGain(40, Difference(0.3, 0.2, 0.4), Difference(0.1, 0.0, 0.2), beside)
    asked = replace(decision, expert=better)
    write_decision(workspace, asked)
    assert read_decision(workspace, 2) == asked
    assert asked.figures()["expert_is_better"] == 1
    assert json.loads(workspace.decision_file(2).read_text())["expert"]["is_better"] == 1
    workspace.decision_file(2).write_text('{"iteration": 2}')
    with pytest.raises(DataError, match=r"expected a gate's decision.*dvc repro gate@002"):
        read_decision(workspace, 2)


def test_handing_over_links_the_files(tmp_path: Path) -> None:
    kept, newest, target = tmp_path / "kept", tmp_path / "new", tmp_path / "handover"
    for folder in (kept, newest):
        (folder / "average").mkdir(parents=True)
        (folder / "weights").write_text(folder.name)
        (folder / "feedback_tables.json").write_text(f'{{"{folder.name}": "x"}}')
    (tmp_path / "link").symlink_to(kept / "weights")
    (kept / "linked").symlink_to(tmp_path / "link")
    hand_over(kept, newest, target)
    assert (target / "weights").read_text() == (target / "linked").read_text() == "kept"
    assert (target / "weights").stat().st_ino == (kept / "weights").stat().st_ino
    assert not (target / "linked").is_symlink()
    # Tables stay good data where the policy trained on them is dropped.
    assert (target / "feedback_tables.json").read_text() == '{"new": "x"}'
    assert (kept / "feedback_tables.json").read_text() == '{"kept": "x"}'
    require_policy(target)


def test_a_stopped_campaign_says_why(tmp_path: Path) -> None:
    (tmp_path / "handover").mkdir()
    (tmp_path / "handover/weights").write_text("old")
    forbid_next(4, "pass_at_1 is worse", tmp_path / "handover")
    assert [path.name for path in (tmp_path / "handover").iterdir()] == ["stopped.json"]
    with pytest.raises(GateError, match=r"iteration 4 ended.*pass_at_1 is worse.*on_regression"):
        require_policy(tmp_path / "handover")
