"""A task's figure: pass@1 and pass@8 over iterations, a small panel for each objective."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.objectives.methods import METHODS, REFERENCE
from benchmarks.objectives.results import Results, interval
from distil_core.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curves = Sequence[Sequence[dict[str, float]]]

_SHOWN = (("pass_at_1", "pass@1", "#1f5fa8"), ("pass_at_8", "pass@8", "#b3761b"))
_COLUMNS = 3


def write_figure(results: Results, task: str, file: Path) -> None:
    """Lines are means over seeds, bands 95% t-intervals; thin grey lines repeat the reference
    method in the other panels, so that each can be compared without looking across."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    rows = -(-len(METHODS) // _COLUMNS)
    figure = Figure(figsize=(9.0, 2.25 * rows + 0.7), dpi=110)
    grid = figure.subplots(rows, _COLUMNS, sharex=True, sharey=True, squeeze=False)
    reference = list(results.test_curves(task, REFERENCE).values())
    for index, (name, method) in enumerate(METHODS.items()):
        axes = grid[index // _COLUMNS][index % _COLUMNS]
        if name != REFERENCE:
            _draw_reference(axes, reference)
        _draw(axes, list(results.test_curves(task, name).values()))
        axes.set_title(method.label, loc="left", fontsize=9.5)
        axes.set_ylim(0, 1.03)
        axes.grid(axis="y", alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if index + _COLUMNS >= len(METHODS):
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("iteration (0 = base)", fontsize=9)
    for axes in grid.flat[len(METHODS) :]:
        axes.set_axis_off()
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper right", ncols=3, fontsize=9, frameon=False)
    figure.suptitle(results.tasks[task].title, x=0.01, ha="left", fontsize=11)
    figure.tight_layout(rect=(0, 0, 1, 0.985))
    with atomic_path(file) as temporary:
        figure.savefig(temporary, format="png")


def _draw(axes: Axes, curves: Curves) -> None:
    if not curves:
        return
    iterations = range(len(curves[0]))
    for metric, label, color in _SHOWN:
        points = [interval([curve[i][metric] for curve in curves]) for i in iterations]
        means = [point.mean for point in points]
        widths = [point.half_width or 0.0 for point in points]
        low = [mean - width for mean, width in zip(means, widths, strict=True)]
        high = [mean + width for mean, width in zip(means, widths, strict=True)]
        axes.fill_between(iterations, low, high, color=color, alpha=0.18, linewidth=0)
        axes.plot(iterations, means, color=color, marker="o", markersize=3, label=label)


def _draw_reference(axes: Axes, curves: Curves) -> None:
    if not curves:
        return
    iterations = range(len(curves[0]))
    for metric, _, _ in _SHOWN:
        means = [interval([curve[i][metric] for curve in curves]).mean for i in iterations]
        label = METHODS[REFERENCE].label if metric == _SHOWN[0][0] else None
        axes.plot(iterations, means, color="#8a8f96", linewidth=1, linestyle="--", label=label)
