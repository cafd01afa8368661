"""The study in miniature, end to end, and the statistics of its report (about 8 CPU-seconds)."""

import json
from pathlib import Path
from statistics import fmean, stdev

import pytest

from benchmarks.objectives.__main__ import main, run_missing
from benchmarks.objectives.campaign import Run
from benchmarks.objectives.methods import METHODS
from benchmarks.objectives.report import write_report
from benchmarks.objectives.results import Results, interval
from benchmarks.objectives.settings import StudyTask, quick
from benchmarks.objectives.tasks import TASKS
from distil_core.errors import ConfigError, DataError

# Each problem source and each kind of expert once.
NAMES = ("late_harm", "hidden_situation", "chain_arithmetic")
QUICK = {name: quick(TASKS[name]) for name in NAMES}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("study")
    main(["--quick", "--folder", str(folder), "--tasks", *NAMES])
    return Results(folder, QUICK)


def test_every_method_runs_on_every_task(finished: Results) -> None:
    for task in QUICK:
        assert len(list(finished.tuning_runs(task))) == len(METHODS)
        runs = list(finished.test_runs(task))
        assert {(run.method, run.seed) for run in runs} == {(m, s) for m in METHODS for s in (1, 2)}
        for run in runs:
            curve = finished.curve(run)
            assert curve is not None
            assert len(curve) == 2
            assert 0 <= curve[-1]["pass_at_1"] <= curve[-1]["pass_at_8"] <= 1
        # One base and one set of test problems a seed, whatever the method.
        starts = {(run.seed, json.dumps((finished.curve(run) or [])[0])) for run in runs}
        assert len(starts) == 2


def test_a_second_call_runs_nothing_and_a_lost_result_alone_is_run_again(
    finished: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    run_missing(finished)
    assert capsys.readouterr().out == ""
    run = next(finished.test_runs("hidden_situation"))
    before = finished.file(run).read_bytes()
    finished.file(run).unlink()
    run_missing(finished)
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert finished.file(run).read_bytes() == before


def test_results_of_other_settings_are_not_used(finished: Results) -> None:
    task = QUICK["late_harm"]
    budget = task.budget.model_copy(update={"num_steps": 3})
    changed = Results(finished.folder, {"late_harm": task.model_copy(update={"budget": budget})})
    run = Run("late_harm", "grpo", 0.001, 101, "tuning")
    assert finished.curve(run) is not None
    assert changed.curve(run) is None
    assert changed.learning_rate("late_harm", "grpo") is None


def test_the_report_fills_its_marks_and_keeps_the_rest(finished: Results, tmp_path: Path) -> None:
    name = "hidden_situation"
    results = Results(finished.folder, {name: QUICK[name]})
    document = tmp_path / "study.md"
    document.write_text(
        f"Kept.\n<!-- begin {name} -->\nstale\n<!-- end {name} -->\nKept.\n", encoding="utf-8"
    )
    write_report(results, document)
    text = document.read_text(encoding="utf-8")
    assert text.count("Kept.") == 2
    assert "stale" not in text
    assert text.count("| reverse KL | 0.001 | 2 |") == 1
    assert (tmp_path / f"study-{name}.png").read_bytes().startswith(b"\x89PNG")
    document.write_text("no marks", encoding="utf-8")
    with pytest.raises(DataError, match="begin hidden_situation"):
        write_report(results, document)


def test_intervals_are_students_t() -> None:
    values = [0.2, 0.3, 0.25, 0.4, 0.35]
    found = interval(values)
    assert found.mean == pytest.approx(fmean(values))
    # scipy.stats.t.ppf(0.975, 4) = 2.7764451.
    assert found.half_width == pytest.approx(2.7764451 * stdev(values) / 5**0.5, rel=1e-3)
    assert interval([0.5]).half_width is None
    with pytest.raises(ConfigError, match="found 12"):
        interval([0.0] * 12)


def test_tuning_and_test_never_share_seeds_or_problems() -> None:
    for task in TASKS.values():
        assert not set(task.study.tuning_seeds) & set(task.study.test_seeds)
        assert len(task.study.test_seeds) >= 5
        assert task.problems.num_eval == task.budget.num_validation + task.budget.num_test
        assert _gold_tokens_suffice(task)


def _gold_tokens_suffice(task: StudyTask) -> bool:
    """The control never repeats a gold solution within an iteration."""
    return task.problems.num_train >= task.budget.num_prompts * task.budget.num_rollouts
