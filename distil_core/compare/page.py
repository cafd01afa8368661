"""Render a comparison: one self-contained HTML text, in the form of the campaign's report."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from markupsafe import Markup

from distil_core.compare import charts
from distil_core.compare.compared import (
    Comparison,
    Pair,
    at,
    best,
    cost,
    last,
    num_common_iterations,
    score_of,
    warnings_within,
)
from distil_core.compare.sides import Side
from distil_core.compare.words import conclusion
from distil_core.evaluation.contrast import SIDES_SHARE, Contrast
from distil_core.evaluation.over_seeds import Estimate
from distil_core.html_page import inline, page_environment

_REPORT = "distil_core.report"
"""Whose style sheet and macros the page has."""

_FIGURES = (
    ("pass@1", "pass_at_1"),
    ("malformed", "malformed_rate"),
    ("truncated", "truncation_rate"),
    ("tokens a response", "response_tokens_mean"),
    ("entropy, nats a token", "entropy_per_token"),
    ("expert's accuracy", "expert_accuracy"),
    ("expert's gain", "expert_gain"),
    ("harder problems @1", "generalisation_pass_at_1"),
)


def render_comparison(comparison: Comparison, title: str) -> str:
    """The whole file. It loads nothing and has no script: styles and charts are inline."""
    sides = comparison.sides
    ks = comparison.shown_ks
    return (
        page_environment("distil_core.compare", _REPORT, share=_share)
        .get_template("comparison.html")
        .render(
            title=title,
            style=inline(_REPORT, "report.css"),
            conclusion=conclusion(comparison),
            several=len(sides) > 1,
            seeds=comparison.has_seeds,
            ks=ks,
            sides=[_side_view(side, place, ks) for place, side in enumerate(sides)],
            score_charts=[(k, charts.scores(comparison, k)) for k in ks],
            difference_charts=[
                (k, svg) for k in ks if (svg := charts.differences(comparison, k)) is not None
            ],
            cost_charts=_cost_charts(comparison),
            pairs=[_pair_view(pair, place, ks) for place, pair in enumerate(comparison.pairs, 1)],
            warnings=_warnings(comparison),
            figures=[_figure_row(comparison, name, key) for name, key in _FIGURES],
            iterations=_iteration_rows(comparison, ks),
            runs=[
                (charts.letter(place), run) for place, side in enumerate(sides) for run in side.runs
            ],
        )
    )


def _share(value: float) -> str:
    return f"{value:.3f}" if value >= 0.0005 else "< 0.001"


def _side_view(side: Side, place: int, ks: Sequence[int]) -> dict[str, Any]:
    champions = sorted({run.best.number for run in side.runs})
    return {
        "letter": charts.letter(place),
        "colour": charts.colour(place),
        "label": side.label,
        "campaign": ", ".join(dict.fromkeys(run.campaign for run in side.runs)),
        "where": side.runs[0].where,
        "seeds": side.seeds,
        "iterations": num_common_iterations(side) - 1,
        "champion": ", ".join(map(str, champions)),
        "best": [score_of(side, f"pass_at_{k}", best) for k in ks],
        "last": [score_of(side, f"pass_at_{k}", last) for k in ks],
        "tokens": cost(side, lambda run: float(run.rollout_tokens(run.best.number))),
        "seconds": cost(side, lambda run: run.seconds(run.best.number)),
        "all_tokens": cost(side, lambda run: float(run.rollout_tokens(run.last.number))),
        "all_seconds": cost(side, lambda run: run.seconds(run.last.number)),
    }


def _cost_charts(comparison: Comparison) -> dict[str, Markup | None]:
    return {
        "tokens": charts.over_cost(
            comparison,
            lambda run, number: float(run.rollout_tokens(number)),
            "rollout tokens sampled for training",
        ),
        "seconds": charts.over_cost(
            comparison,
            lambda run, number: run.seconds(number),
            "seconds of all stages, base policy included",
        ),
    }


def _pair_view(pair: Pair, place: int, ks: Sequence[int]) -> dict[str, Any]:
    return {
        "letter": charts.letter(place),
        "label": pair.label,
        "settings": pair.settings,
        "by_problem": pair.best.shared == "problems",
        "rows": [
            _contrast_row("best", pair.best, ks),
            _contrast_row("last", pair.last, ks),
            *(_contrast_row(str(number), each, ks) for number, each in pair.by_iteration.items()),
        ],
    }


def _contrast_row(name: str, contrast: Contrast, ks: Sequence[int]) -> dict[str, Any]:
    return {
        "name": name,
        "scores": [contrast.scores.get(f"pass_at_{k}") for k in ks],
        "contrast": contrast,
        "how": SIDES_SHARE[contrast.shared],
    }


def _warnings(comparison: Comparison) -> list[str]:
    found = [warning for side in comparison.sides for warning in warnings_within(side)]
    found += [f"{pair.label}: {text}" for pair in comparison.pairs for text in pair.warnings]
    return list(dict.fromkeys(found))


def _figure_row(comparison: Comparison, name: str, key: str) -> tuple[str, list[Estimate | None]]:
    return name, [score_of(side, key, best) for side in comparison.sides]


def _iteration_rows(
    comparison: Comparison, ks: Sequence[int]
) -> list[tuple[int, list[list[Estimate | None]]]]:
    """For each iteration and side the scores; empty for a side that does not have it."""
    most = max(map(num_common_iterations, comparison.sides))
    return [
        (
            number,
            [
                list(map(partial(_score, side, number), ks))
                if number < num_common_iterations(side)
                else []
                for side in comparison.sides
            ],
        )
        for number in range(most)
    ]


def _score(side: Side, number: int, k: int) -> Estimate | None:
    return score_of(side, f"pass_at_{k}", at(number))
