"""The comparison's charts: a line for each side, bands where there are intervals."""

from collections.abc import Callable, Sequence
from string import ascii_uppercase

from markupsafe import Markup

from distil_core.compare.compared import Comparison, at, cost, num_common_iterations, score_of
from distil_core.compare.read import CampaignRun
from distil_core.compare.sides import Side
from distil_core.evaluation.over_seeds import Estimate
from distil_core.report.charts import (
    NUM_COLOURS,
    Chart,
    Series,
    integer_ticks,
    nice_ticks,
    unit_ticks,
)

_ITERATION = "iteration (0 = base policy)"


def colour(place: int) -> int:
    """The number of a side's colour on the page."""
    return place % NUM_COLOURS


def letter(place: int) -> str:
    """What a side is called in charts, whatever the length of its label: A, B .. Z, AA."""
    rest, number = divmod(place, len(ascii_uppercase))
    return (letter(rest - 1) if rest else "") + ascii_uppercase[number]


def scores(comparison: Comparison, k: int) -> Markup:
    """pass@k over iterations."""
    name = f"pass_at_{k}"
    series = [
        _series(place, range(num_common_iterations(side)), _curve(side, name))
        for place, side in enumerate(comparison.sides)
    ]
    return Chart(
        series,
        x_label=_ITERATION,
        y_label=f"pass@{k}",
        description=f"Held-out pass@{k} over iterations, by side, with 95% intervals",
        x_ticks=integer_ticks(max(map(num_common_iterations, comparison.sides))),
        y_ticks=unit_ticks(),
    ).svg()


def differences(comparison: Comparison, k: int) -> Markup | None:
    """Of pass@k from the first side over iterations."""
    name = f"pass_at_{k}"
    series = [
        _series(
            place,
            list(pair.by_iteration),
            [each.scores[name] for each in pair.by_iteration.values()],
        )
        for place, pair in enumerate(comparison.pairs, start=1)
    ]
    if not series:
        return None
    values = [value for one in series for value in (*one.ys, *one.lows, *one.highs)]
    return Chart(
        series,
        x_label=_ITERATION,
        y_label=f"difference of pass@{k}",
        description=f"Difference of pass@{k} from {comparison.sides[0].label}, over iterations",
        x_ticks=integer_ticks(max(len(pair.by_iteration) for pair in comparison.pairs)),
        y_ticks=nice_ticks([0.0, *values]),
    ).svg()


def over_cost(
    comparison: Comparison,
    spent: Callable[[CampaignRun, int], float | None],
    x_label: str,
) -> Markup | None:
    """pass@1 against what was spent up to each iteration; None where that is not known."""
    series = []
    for place, side in enumerate(comparison.sides):
        costs = [
            cost(side, lambda run, number=number: spent(run, number))  # type: ignore[misc]
            for number in range(num_common_iterations(side))
        ]
        if any(each is None for each in costs):
            return None
        xs = [each.value for each in costs if each]
        series.append(_series(place, xs, _curve(side, "pass_at_1")))
    furthest = max(max(one.xs) for one in series)
    return Chart(
        series,
        x_label=x_label,
        y_label="pass@1",
        description=f"pass@1 against {x_label}, by side",
        x_ticks=nice_ticks([0.0, furthest or 1.0]),
        y_ticks=unit_ticks(),
    ).svg()


def _curve(side: Side, name: str) -> list[Estimate]:
    found = [score_of(side, name, at(number)) for number in range(num_common_iterations(side))]
    return [each for each in found if each is not None]


def _series(place: int, xs: Sequence[float], estimates: Sequence[Estimate]) -> Series:
    ends = [
        (each.low, each.high)
        for each in estimates
        if each.low is not None and each.high is not None
    ]
    whole = len(ends) == len(estimates)
    return Series(
        letter(place),
        [float(x) for x in xs],
        [each.value for each in estimates],
        [low for low, _ in ends] if whole else (),
        [high for _, high in ends] if whole else (),
        colour(place),
    )
