"""Results on disk: which runs a study has, which it lacks, and what follows from them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from benchmarks.objectives.campaign import Run
from benchmarks.objectives.methods import METHODS
from benchmarks.objectives.settings import StudyTask
from distil_core.errors import ConfigError

# Two-sided 95% quantiles of Student's t by degrees of freedom.
_T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and half the width of its 95% t-interval, None for a single seed."""

    mean: float
    half_width: float | None


def interval(values: Sequence[float]) -> Interval:
    """Of independent values, one a seed; `ConfigError` beyond 11 of them."""
    if len(values) == 1:
        return Interval(values[0], None)
    if not 2 <= len(values) <= len(_T_QUANTILES) + 1:
        raise ConfigError(
            f"intervals are tabulated for 1 .. {len(_T_QUANTILES) + 1} seeds, found {len(values)}"
        )
    quantile = _T_QUANTILES[len(values) - 2]
    return Interval(fmean(values), quantile * stdev(values) / len(values) ** 0.5)


class Results:
    """The runs of all tasks below one folder, a file each."""

    def __init__(self, folder: Path, tasks: Mapping[str, StudyTask]):
        self.folder = folder
        self.tasks = tasks

    def file(self, run: Run) -> Path:
        """Where the run's result is; its name carries a digest of all that it depends on."""
        method = METHODS[run.method]
        digest = self.tasks[run.task].digest(method.objective, method.options, method.states)
        name = f"{run.method}-{run.purpose}-{run.learning_rate:g}-{run.seed}-{digest}.json"
        return self.folder / "runs" / run.task / name

    def curve(self, run: Run) -> list[dict[str, float]] | None:
        """The run's evaluations in order, None where it has not finished."""
        file = self.file(run)
        if not file.exists():
            return None
        result: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        curve: list[dict[str, float]] = result["curve"]
        return curve

    def tuning_runs(self, task: str) -> Iterator[Run]:
        """Seeds outermost, so that a base policy is made once."""
        study = self.tasks[task].study
        for seed in study.tuning_seeds:
            for method in METHODS:
                for rate in study.learning_rates:
                    yield Run(task, method, rate, seed, "tuning")

    def test_runs(self, task: str) -> Iterator[Run]:
        """At each method's chosen rate; of methods that are not tuned yet there are none."""
        rates = {method: self.learning_rate(task, method) for method in METHODS}
        for seed in self.tasks[task].study.test_seeds:
            for method, rate in rates.items():
                if rate is not None:
                    yield Run(task, method, rate, seed, "test")

    def validation_scores(self, task: str, method: str) -> dict[float, float]:
        """Mean validation pass@1 over tuning seeds, of the rates whose runs are all there."""
        study = self.tasks[task].study
        scores = {}
        for rate in study.learning_rates:
            curves = [
                self.curve(Run(task, method, rate, seed, "tuning")) for seed in study.tuning_seeds
            ]
            finished = [curve[-1]["pass_at_1"] for curve in curves if curve is not None]
            if len(finished) == len(curves):
                scores[rate] = fmean(finished)
        return scores

    def learning_rate(self, task: str, method: str) -> float | None:
        """The rate of the grid with the best validation pass@1, the lowest of equals; None until
        every tuning run of the method is there."""
        scores = self.validation_scores(task, method)
        if len(scores) < len(self.tasks[task].study.learning_rates):
            return None
        return max(sorted(scores), key=lambda rate: scores[rate])

    def test_curves(self, task: str, method: str) -> dict[int, list[dict[str, float]]]:
        """By seed, finished runs only."""
        rate = self.learning_rate(task, method)
        if rate is None:
            return {}
        curves = {
            seed: self.curve(Run(task, method, rate, seed, "test"))
            for seed in self.tasks[task].study.test_seeds
        }
        return {seed: curve for seed, curve in curves.items() if curve is not None}
