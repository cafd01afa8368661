"""Whether an expert is better, by its own answers beside the student's (2 s)."""

from typing import Any

import pytest
from evaluation_rows import row

from distil_core.evaluation.better_expert import expert_gain, stored_gain
from distil_core.evaluation.summary import columns_of, evaluation_frame, summarise


def table(student: int, expert: int, of: int = 4, count: int = 40, silent: int = 0) -> list[Any]:
    """Problems on which the student is right `student` times of 4, the expert `expert` of `of`,
    by turns one more and one less; of the last ones the expert was not asked."""
    asked = [
        row(
            min(4, max(0, student + 1 - 2 * (index % 2))),
            problem_id=f"{index:03d}",
            expert_num_samples=of,
            expert_num_correct=expert,
        )
        for index in range(count)
    ]
    return asked + [row(4, problem_id=f"x{index}") for index in range(silent)]


def measured(rows: list[Any]) -> Any:
    return expert_gain(columns_of(evaluation_frame(rows)), 400, 7)


def test_its_figures_are_those_of_the_evaluation() -> None:
    rows = table(1, 3, silent=9)
    found, summary = measured(rows), summarise(rows, 400, 7)
    assert found.num_problems == summary["expert_num_problems"] == 40
    for figure, name in ((found.expert, "expert_accuracy"), (found.gain, "expert_gain")):
        ends = [summary[f"{name}{end}"] for end in ("", "_low", "_high")]
        assert [figure.value, figure.low, figure.high] == pytest.approx(ends)
    assert found.student.value == pytest.approx(0.25)
    assert found.gain.value == pytest.approx(found.expert.value - found.student.value)
    assert stored_gain(found.stored()) == found


@pytest.mark.parametrize(
    ("student", "expert", "is_better", "said"),
    [
        (1, 3, True, "the expert is better than the student: "),
        (3, 1, False, "the expert is not better than the student: "),
        (2, 2, False, "the expert is not better than the student: "),
    ],
)
def test_better_is_the_whole_interval(
    student: int, expert: int, is_better: bool, said: str
) -> None:
    found = measured(table(student, expert))
    assert found.is_better is is_better
    assert found.words.startswith(said)
    assert "on the same 40 held-out problems is" in found.words


def test_a_difference_within_noise_is_none() -> None:
    found = measured([*table(0, 4, count=2), *table(4, 1, count=1)])
    assert found.gain.value > 0 > found.gain.low
    assert "not better than the student beyond noise" in found.words


def test_an_expert_that_was_not_asked_is_not_measured() -> None:
    assert measured([row(2)]) is None
    assert expert_gain({}, 400, 7) is None
