"""From results to docs: tables between markers in the document, each task's figure beside it."""

from pathlib import Path

from benchmarks.objectives.figures import write_figure
from benchmarks.objectives.methods import METHODS, REFERENCE
from benchmarks.objectives.results import Interval, Results, interval
from distil_core.errors import DataError
from distil_core.files import write_text

_BEGIN, _END = "<!-- begin {name} -->\n", "<!-- end {name} -->"


def write_report(results: Results, document: Path) -> None:
    """Replace each task's tables in `document`, draw its figure as `document`-TASK.png.

    Raises `DataError` where a task has no marked place, or no finished method.
    """
    text = document.read_text(encoding="utf-8")
    for task in results.tasks:
        text = _replaced(text, task, _tables(results, task), document)
        write_figure(results, task, document.with_name(f"{document.stem}-{task}.png"))
    write_text(document, text)


def _replaced(text: str, name: str, content: str, document: Path) -> str:
    begin, end = _BEGIN.format(name=name), _END.format(name=name)
    before, found_begin, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise DataError(f"{document}: expected a line {begin.strip()!r} and later {end!r}")
    return f"{before}{begin}{content}{end}{after}"


def _tables(results: Results, task: str) -> str:
    return f"\n{_outcome_table(results, task)}\n{_tuning_table(results, task)}\n"


def _outcome_table(results: Results, task: str) -> str:
    reference = results.test_curves(task, REFERENCE)
    if not reference:
        raise DataError(
            f"{task}: no finished run of {REFERENCE!r} in {results.folder}, which the others are "
            "compared with; run `python -m benchmarks.objectives` first"
        )
    base = {k: interval([curve[0][f"pass_at_{k}"] for curve in reference.values()]) for k in (1, 8)}
    lines = [
        f"| objective | learning rate | seeds | pass@1 | pass@8 | pass@1 minus "
        f"{METHODS[REFERENCE].label} | lowest pass@1 on the way, minus base |",
        "|---|---|---|---|---|---|---|",
        f"| base policy | | {len(reference)} | {_shown(base[1])} | {_shown(base[8])} | | |",
    ]
    for name, method in METHODS.items():
        curves = results.test_curves(task, name)
        if not curves:
            lines.append(f"| {method.label} | | 0 | | | | |")
            continue
        last = {k: [curve[-1][f"pass_at_{k}"] for curve in curves.values()] for k in (1, 8)}
        differences = [
            curve[-1]["pass_at_1"] - reference[seed][-1]["pass_at_1"]
            for seed, curve in curves.items()
            if seed in reference
        ]
        lowest = [
            min(point["pass_at_1"] for point in curve[1:]) - curve[0]["pass_at_1"]
            for curve in curves.values()
        ]
        difference = "" if name == REFERENCE else _shown(interval(differences), signed=True)
        lines.append(
            f"| {method.label} | {results.learning_rate(task, name):g} | {len(curves)} "
            f"| {_shown(interval(last[1]))} | {_shown(interval(last[8]))} | {difference} "
            f"| {_shown(interval(lowest), signed=True)} |"
        )
    return "\n".join(lines) + "\n"


def _tuning_table(results: Results, task: str) -> str:
    """Validation pass@1 by learning rate: how much each objective depends on it."""
    rates = results.tasks[task].study.learning_rates
    lines = [
        f"| validation pass@1 at learning rate | {' | '.join(f'{rate:g}' for rate in rates)} |",
        f"|---|{'---|' * len(rates)}",
    ]
    for name, method in METHODS.items():
        scores = results.validation_scores(task, name)
        cells = " | ".join(f"{scores[rate]:.3f}" if rate in scores else "" for rate in rates)
        lines.append(f"| {method.label} | {cells} |")
    return "\n".join(lines) + "\n"


def _shown(value: Interval, signed: bool = False) -> str:
    mean = f"{value.mean:+.3f}" if signed else f"{value.mean:.3f}"
    return mean if value.half_width is None else f"{mean} ± {value.half_width:.3f}"
