"""From results to docs: a domain's tables between markers in the document, its figure beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.domains.beside import BESIDE, beside, beside_table
from benchmarks.domains.campaign import Run
from benchmarks.objectives.results import interval
from distil_core.errors import DataError
from distil_core.files import atomic_path, write_text

_MIN_SEEDS_FOR_INTERVAL = 3
_SHOWN = (("pass_at_1", "pass@1", "#1f5fa8"), ("pass_at_8", "pass@8", "#b3761b"))


def write_report(
    runs: Mapping[str, Sequence[Run]], folder: Path, document: Path, *, with_beside: bool = False
) -> None:
    """Replace each domain's tables in `document`, draw its figure as `document`-DOMAIN.png.

    with_beside: also the table of other objectives, of the domains that have some.
    Raises `DataError` where a domain has no finished run or no marked place.
    """
    text = document.read_text(encoding="utf-8")
    for domain, asked in runs.items():
        results = [result for run in asked if (result := run.result(folder)) is not None]
        if not results:
            raise DataError(
                f"no finished run of the {domain} preset as it is now in {folder}: "
                "run `python -m benchmarks.domains` first"
            )
        text = _replaced(text, domain, _tables(results), document)
        if with_beside and domain in BESIDE:
            table = beside_table(beside(asked), folder)
            text = _replaced(text, f"{domain} beside", f"\n{table}\n\n", document)
        write_figure(domain, results, document.with_name(f"{document.stem}-{domain}.png"))
    write_text(document, text)


def _replaced(text: str, name: str, content: str, document: Path) -> str:
    begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
    before, found_begin, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise DataError(f"{document}: expected a line {begin.strip()!r} and later {end!r}")
    return f"{before}{begin}{content}{end}{after}"


def _tables(results: Sequence[Mapping[str, Any]]) -> str:
    return f"\n{_curve_table(results)}\n{_expert_table(results)}\n{_cost_line(results)}\n\n"


def _curve_table(results: Sequence[Mapping[str, Any]]) -> str:
    seeds = ", ".join(str(result["seed"]) for result in results)
    lines = [
        f"| iteration | pass@1 | of each seed ({seeds}) | pass@8 | of each seed | malformed | s |",
        "|---:|---|---|---|---|---:|---:|",
    ]
    for iteration in range(len(results[0]["curve"])):
        points = [result["curve"][iteration] for result in results]
        seconds = [sum(result["stage_seconds"][iteration].values()) for result in results]
        lines.append(
            f"| {iteration} | {_mean(points, 'pass_at_1')} | {_each(points, 'pass_at_1')} "
            f"| {_mean(points, 'pass_at_8')} | {_each(points, 'pass_at_8')} "
            f"| {fmean(point['malformed_rate'] for point in points):.3f} | {fmean(seconds):.0f} |"
        )
    return "\n".join(lines) + "\n"


def _expert_table(results: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "| the expert's most likely token is the oracle's | all states "
        "| states where the student erred |",
        "|---|---:|---:|",
    ]
    for name in results[0]["expert"]:
        means = [
            fmean(result["expert"][name][column] for result in results)
            for column in ("all_states", "at_errors")
        ]
        lines.append(f"| {name} | {means[0]:.4f} | {means[1]:.4f} |")
    return "\n".join(lines) + "\n"


def _cost_line(results: Sequence[Mapping[str, Any]]) -> str:
    cpu, wall, memory = (
        [result[name] for result in results] for name in ("cpu_s", "wall_s", "peak_memory_mb")
    )
    return (
        f"`distil run` took {_range(cpu, '.0f')} processor seconds "
        f"({_range(wall, '.0f')} s on the clock of a machine that did other work too) and at most "
        f"{max(memory) / 1000:.1f} GB of memory, Prefect's server included."
    )


def _mean(points: Sequence[Mapping[str, float]], metric: str) -> str:
    """With a t-interval where there are seeds enough for one that says something."""
    found = interval([point[metric] for point in points])
    if found.half_width is None or len(points) < _MIN_SEEDS_FOR_INTERVAL:
        return f"{found.mean:.3f}"
    return f"{found.mean:.3f} ± {found.half_width:.3f}"


def _each(points: Sequence[Mapping[str, float]], metric: str) -> str:
    return ", ".join(
        f"{point[metric]:.3f} [{point[f'{metric}_low']:.3f}, {point[f'{metric}_high']:.3f}]"
        for point in points
    )


def _range(values: Sequence[float], form: str) -> str:
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"


def write_figure(domain: str, results: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Each seed's curve with its 95% bootstrap interval over problems as a band, and the mean."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 4.5), dpi=120)
    axes = figure.add_axes((0.08, 0.12, 0.77, 0.78))
    iterations = range(len(results[0]["curve"]))
    for metric, label, color in _SHOWN:
        for result in results:
            middle, low, high = (
                [point[f"{metric}{end}"] for point in result["curve"]]
                for end in ("", "_low", "_high")
            )
            axes.fill_between(iterations, low, high, color=color, alpha=0.13, linewidth=0)
            axes.plot(iterations, middle, color=color, alpha=0.45, linewidth=0.9)
        means = [fmean(r["curve"][i][metric] for r in results) for i in iterations]
        axes.plot(iterations, means, color=color, marker="o", markersize=4, label=label)
        axes.annotate(
            f"{label}  {means[-1]:.3f}",
            (iterations[-1], means[-1]),
            xytext=(8, -9 if metric == "pass_at_1" else 4),
            textcoords="offset points",
            color=color,
            va="center",
            annotation_clip=False,
        )
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("iteration (0 = base policy)")
    axes.set_ylabel("held-out pass@k, without feedback")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    last = results[0]["curve"][-1]
    axes.set_title(
        f"{domain}: mean of {len(results)} seeds; bands are each seed's 95% interval over its "
        f"{last['num_problems']:.0f} problems, {last['num_samples']:.0f} samples each",
        loc="left",
        fontsize=9.5,
    )
    with atomic_path(file) as temporary:
        figure.savefig(temporary, format="png")
