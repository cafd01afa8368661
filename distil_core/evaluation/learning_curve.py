"""The learning curve: held-out pass@k over iterations, with its intervals."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from distil_core.errors import DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PASS_AT = re.compile(r"pass_at_(\d+)")
_COLORS = ("#1f5fa8", "#2f8f7f", "#b3761b", "#8a3f78", "#5a5f66", "#a33b2e")


def pass_at_ks(metrics: Mapping[str, float]) -> list[int]:
    """The k for which `metrics` (as in metrics.json) has pass@k, ascending."""
    matches = (_PASS_AT.fullmatch(name) for name in metrics)
    return sorted(int(match[1]) for match in matches if match)


def learning_curve_figure(
    metrics_by_iteration: Mapping[int, Mapping[str, float]],
) -> "Figure":
    """pass@k over iterations, one line for each k, with its 95% interval as a band.

    metrics_by_iteration: the contents of each iteration's metrics.json. Where they have different k
    (evaluate.num_samples was changed), a line covers the iterations that have its k. Raises
    `DataError` when there are none, or one has no interval. Importing matplotlib takes a second.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    iterations = sorted(metrics_by_iteration)
    if not iterations:
        raise DataError("a learning curve needs the metrics of at least one iteration, found none")
    ks = sorted({k for metrics in metrics_by_iteration.values() for k in pass_at_ks(metrics)})
    figure = Figure(figsize=(8, 4.5), dpi=120)
    axes = figure.add_axes((0.08, 0.12, 0.75, 0.78))
    ends = []
    for k, color in zip(ks, _COLORS * len(ks), strict=False):
        xs = [i for i in iterations if f"pass_at_{k}" in metrics_by_iteration[i]]
        middle, low, high = (
            [_value(metrics_by_iteration, i, f"pass_at_{k}{end}") for i in xs]
            for end in ("", "_low", "_high")
        )
        axes.fill_between(xs, low, high, color=color, alpha=0.15, linewidth=0)
        axes.plot(xs, middle, color=color, marker="o", markersize=3.5)
        ends.append((middle[-1], f"pass@{k}  {middle[-1]:.3f}", color, xs[-1]))
    for height, (value, text, color, x) in zip(_spread([e[0] for e in ends]), ends, strict=True):
        axes.annotate(
            text,
            (x, value),
            xytext=(iterations[-1] + 0.03 * max(1, len(iterations)), height),
            color=color,
            va="center",
            annotation_clip=False,
        )
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("iteration (0 = base policy)")
    axes.set_ylabel("held-out pass@k")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(_title(metrics_by_iteration[iterations[-1]]), loc="left", fontsize=10)
    return figure


def _title(metrics: Mapping[str, float]) -> str:
    size = ""
    if "num_problems" in metrics and "num_samples" in metrics:
        size = (
            f": {metrics['num_problems']:.0f} problems, {metrics['num_samples']:.0f} samples each"
        )
    return f"Held-out pass@k{size}; bands are 95% intervals over problems"


def _value(
    metrics_by_iteration: Mapping[int, Mapping[str, float]], iteration: int, name: str
) -> float:
    metrics = metrics_by_iteration[iteration]
    if name not in metrics:
        raise DataError(
            f"metrics of iteration {iteration} have a score but no {name}: make them anew with "
            f"`dvc repro --force evaluate@{iteration:03d}`"
        )
    return metrics[name]


def _spread(values: list[float], gap: float = 0.055) -> list[float]:
    """Heights for labels at `values`, in the same order, moved apart so that none overlap."""
    heights = list(values)
    above = 1.0 + gap
    for index in sorted(range(len(values)), key=lambda index: (-values[index], -index)):
        above = heights[index] = min(values[index], above - gap)
    lift = max(0.0, -above)
    return [height + lift for height in heights]
