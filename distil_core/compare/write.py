"""Write a comparison: its page, and its record in MLflow."""

from collections.abc import Iterator
from pathlib import Path

from distil_core.compare.charts import letter
from distil_core.compare.compared import Comparison, best, cost, last, score_of
from distil_core.compare.page import render_comparison
from distil_core.compare.words import conclusion
from distil_core.evaluation.over_seeds import Estimate
from distil_core.files import write_text
from distil_core.lineage.mlflow.comparison import (
    ComparedPolicy,
    ComparisonRecord,
    record_comparison,
)
from distil_core.workspace import Workspace


def write_page(comparison: Comparison, title: str, file: Path) -> Path:
    """One self-contained HTML file."""
    write_text(file, render_comparison(comparison, title))
    return file


def record(workspace: Workspace, comparison: Comparison, title: str, page: Path) -> str:
    """A run of its own in the workspace's MLflow store; where it is. Raises `LineageError` where
    the store cannot be used."""
    text = "\n\n".join(f"{sentence}." for sentence in conclusion(comparison))
    sides = list(enumerate(comparison.sides))
    params = {f"side_{letter(place)}": side.label for place, side in sides}
    params |= {f"seeds_{letter(place)}": ", ".join(map(str, side.seeds)) for place, side in sides}
    policies = [
        ComparedPolicy(letter(place), run.campaign, run.seed, run.best.number, run.best.lock_digest)
        for place, side in sides
        for run in side.runs
    ]
    metrics = dict(_metrics(comparison))
    return record_comparison(
        workspace, ComparisonRecord(title, metrics, params, policies, text), page
    )


def owner_of_record(workspace: Workspace, comparison: Comparison) -> Workspace:
    """Whose MLflow store has the comparison: of the workspace it was asked for in, or else the one
    that it begins with."""
    if workspace.iterations_file.exists():
        return workspace
    return comparison.sides[0].runs[0].workspace


def _metrics(comparison: Comparison) -> Iterator[tuple[str, float]]:
    for place, side in enumerate(comparison.sides):
        for name, chosen in (("best", best), ("last", last)):
            for k in comparison.ks:
                score = score_of(side, f"pass_at_{k}", chosen)
                yield from _flat(f"{letter(place)}/{name}/pass_at_{k}", score)
        yield from _flat(
            f"{letter(place)}/rollout_tokens",
            cost(side, lambda run: float(run.rollout_tokens(run.best.number))),
        )
        yield from _flat(
            f"{letter(place)}/seconds", cost(side, lambda run: run.seconds(run.best.number))
        )
    for place, pair in enumerate(comparison.pairs, start=1):
        for name, each in (("best", pair.best), ("last", pair.last)):
            prefix = f"{letter(place)}_minus_A/{name}"
            for score_name, difference in each.scores.items():
                yield from _flat(f"{prefix}/{score_name}", difference)
            if each.p_value is not None:
                yield f"{prefix}/sign_test_p", each.p_value


def _flat(name: str, estimate: Estimate | None) -> Iterator[tuple[str, float]]:
    if estimate is None:
        return
    yield name, estimate.value
    if estimate.low is not None and estimate.high is not None:
        yield f"{name}_low", estimate.low
        yield f"{name}_high", estimate.high
