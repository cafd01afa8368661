"""A comparison for people: tables on screen, and where its page and its record lie."""

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

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
from distil_core.compare.read import read_run
from distil_core.compare.seeds import SEEDS_FOLDER, seeds_folder
from distil_core.compare.sides import Side
from distil_core.compare.words import conclusion, signed, with_interval
from distil_core.compare.write import record, write_page
from distil_core.errors import LineageError
from distil_core.evaluation.contrast import SIDES_SHARE
from distil_core.workspace import Workspace
from distil_flows.report import table_width

_SHORTEST_LABEL = 12


def report_seeds(workspace: Workspace, finished: Sequence[Workspace], console: Console) -> None:
    """Means over the seeds that are finished, on screen, as a page and in MLflow."""
    runs = [read_run(each, workspace.relative(each.root)) for each in finished]
    name = runs[0].campaign
    comparison = Comparison([Side(name, sorted(runs, key=lambda run: run.seed))])
    console.print()
    _show_seeds(comparison.sides[0], comparison, console)
    say_warnings(comparison, console)
    title = f"{name}: {len(runs)} seed{'s' if runs[1:] else ''}"
    page = write_page(comparison, title, seeds_folder(workspace) / "report.html")
    finish(workspace, comparison, title, page, console)
    _say(
        console,
        f"Other settings beside these: `distil compare {SEEDS_FOLDER} OTHER/{SEEDS_FOLDER}`",
    )


def show_comparison(comparison: Comparison, console: Console) -> None:
    """The tables of several sides."""
    for side in comparison.sides:
        if len(side.runs) > 1:
            _show_seeds(side, comparison, console)
    _say(console, "Held-out problems, without feedback [95% intervals]")
    console.print(sides_table(comparison, console.width))
    for pair in comparison.pairs:
        how = SIDES_SHARE[pair.best.shared]
        _say(console, f"{pair.label} minus {comparison.sides[0].label}; {how}")
        console.print(differences_table(pair, comparison, console.width))
        if pair.settings:
            _say(console, "Settings that differ")
            console.print(settings_table(pair, comparison))
    say_warnings(comparison, console)
    for sentence in conclusion(comparison):
        _say(console, f"{sentence}.")


def _show_seeds(side: Side, comparison: Comparison, console: Console) -> None:
    what = "t-intervals over seeds" if len(side.runs) > 1 else "intervals over problems"
    _say(console, f"{side.label}, seeds {_listed(side.seeds)} [95% {what}]")
    console.print(seeds_table(side, comparison.shown_ks, console.width))


def say_warnings(comparison: Comparison, console: Console) -> None:
    """What keeps the figures from being of the same thing."""
    found = [text for side in comparison.sides for text in warnings_within(side)]
    found += [f"{pair.label}: {text}" for pair in comparison.pairs for text in pair.warnings]
    for text in dict.fromkeys(found):
        _say(console, f"{text}.", style="yellow")


def seeds_table(side: Side, ks: Sequence[int], width: int) -> Table:
    """Scores by iteration, and of the champions: over the seeds of one side."""
    rows = [(str(number), at(number)) for number in range(num_common_iterations(side))]
    every = [*rows, ("best", best)]
    columns = {"policy": [name for name, _ in every]}
    for k in ks:
        scores = (score_of(side, f"pass_at_{k}", chosen) for _, chosen in every)
        columns[f"pass@{k}"] = [with_interval(score) for score in scores]
    for heading, key in (("malformed", "malformed_rate"), ("cut", "truncation_rate")):
        shares = (score_of(side, key, chosen) for _, chosen in every)
        columns[heading] = [f"{share.value:.3f}" if share else "-" for share in shares]
    return _table(columns, width, ("cut", "malformed"))


def sides_table(comparison: Comparison, width: int) -> Table:
    """Each side's scores and what they cost."""
    ks, sides = comparison.shown_ks, comparison.sides
    columns = {"": [side.label for side in sides]}
    for name, chosen in (("best", best), ("last", last)):
        for k in ks:
            scores = (score_of(side, f"pass_at_{k}", chosen) for side in sides)
            columns[f"{name}@{k}"] = [with_interval(score) for score in scores]
    tokens = [cost(side, lambda run: float(run.rollout_tokens(run.best.number))) for side in sides]
    seconds = [cost(side, lambda run: run.seconds(run.best.number)) for side in sides]
    columns["tokens"] = [f"{each.value:,.0f}" if each else "-" for each in tokens]
    columns["seconds"] = [f"{each.value:,.0f}" if each else "-" for each in seconds]
    least_needed = (f"last@{ks[-1]}", f"best@{ks[-1]}", "seconds", "tokens", f"last@{ks[0]}")
    return _table(columns, width, least_needed)


def differences_table(pair: Pair, comparison: Comparison, width: int) -> Table:
    """Of a side from the first one, by iteration."""
    rows = [*((str(number), each) for number, each in pair.by_iteration.items())]
    every = [*rows, ("last", pair.last), ("best", pair.best)]
    columns = {"policies": [name for name, _ in every]}
    for k in comparison.shown_ks:
        columns[f"pass@{k}"] = [signed(each.scores.get(f"pass_at_{k}")) for _, each in every]
    if pair.best.p_value is not None:
        columns["better"] = [str(each.num_better) for _, each in every]
        columns["worse"] = [str(each.num_worse) for _, each in every]
        columns["sign test p"] = [f"{each.p_value or 0:.3f}" for _, each in every]
    largest = f"pass@{comparison.shown_ks[-1]}"
    return _table(columns, width, (largest, "sign test p", "worse", "better"))


def settings_table(pair: Pair, comparison: Comparison) -> Table:
    """The settings in which a side differs from the first one."""
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("setting", comparison.sides[0].label, pair.label):
        table.add_column(heading, overflow="fold")
    for change in pair.settings:
        table.add_row(change.path, change.before, change.after)
    return table


def finish(
    workspace: Workspace, comparison: Comparison, title: str, page: Path, console: Console
) -> None:
    """Record it in MLflow, and say where both are. A store that cannot be written is no reason to
    lose the page."""
    _say(console, f"\nThe page: {page}")
    try:
        where = record(workspace, comparison, title, page)
    except LineageError as error:
        _say(console, f"Not recorded in MLflow: {error}", style="yellow")
        return
    _say(console, f"In MLflow: {where}")


def _table(columns: dict[str, list[str]], width: int, least_needed: Sequence[str]) -> Table:
    """width: in characters; where the table is wider, columns are left out from the first of
    `least_needed` on, and no number is cut."""
    for heading in least_needed:
        if table_width(columns) > width:
            columns.pop(heading, None)
    table = Table(box=box.SIMPLE_HEAD)
    first, *others = columns
    widest = max(map(len, (first, *columns[first])))
    table.add_column(first, overflow="fold", min_width=min(widest, _SHORTEST_LABEL))
    for heading in others:
        table.add_column(heading, justify="right", no_wrap=True)
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*cells)
    return table


def _say(console: Console, text: str, style: str | None = None) -> None:
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
