"""The training curve: a row for each step, with facts about the feedback table's rollouts."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from distil_core.files import atomic_path
from distil_core.training.feedback_rows import FeedbackRows


def with_table_facts(
    curve: Sequence[Mapping[str, float]], rows: FeedbackRows
) -> list[dict[str, float]]:
    """The curve with columns that are equal in every row, each where it applies: shortened
    contexts, rollouts without a verdict, and the drift of the sampler whose log-probabilities the
    importance weights use."""
    facts: dict[str, float] = {}
    if "num_shortened" in rows.context:
        facts["shortened_contexts"] = rows.context["num_shortened"]["contexts"]
    if rows.num_without_verdict:
        facts["without_verdict"] = rows.num_without_verdict
    facts |= rows.context.get("engine_drift", {})
    return [{**row, **facts} for row in curve]


def write_curve(path: Path, curve: Sequence[Mapping[str, float]]) -> None:
    """Write the curve as CSV; every row has the first row's columns."""
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.DictWriter(file, fieldnames=list(curve[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(curve)
