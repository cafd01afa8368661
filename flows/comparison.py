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


def report_seeds(workspace: Workspace, finished: Sequence[Workspace], console: Console) -> None:
    """Means over the seeds that are finished, on screen, as a page and in MLflow."""
    runs = [read_run(each, workspace.relative(each.root)) for each in finished]
    name = runs[0].campaign
    comparison = Comparison([Side(name, sorted(runs, key=lambda run: run.seed))])
    console.print()
    console.print(seeds_table(comparison.sides[0], comparison.shown_ks))
    say_warnings(comparison, console)
    title = f"{name}: {len(runs)} seed{'s' if runs[1:] else ''}"
    page = write_page(comparison, title, seeds_folder(workspace) / "report.html")
    finish(workspace, comparison, title, page, console)
    console.print(
        f"Other settings beside these: `distil compare {SEEDS_FOLDER} OTHER/{SEEDS_FOLDER}`",
        markup=False,
        highlight=False,
    )


def show_comparison(comparison: Comparison, console: Console) -> None:
    """The tables of several sides."""
    for side in comparison.sides if comparison.has_seeds else ():
        if len(side.runs) > 1:
            console.print(seeds_table(side, comparison.shown_ks))
    console.print(sides_table(comparison))
    for pair in comparison.pairs:
        console.print(differences_table(pair, comparison))
        if pair.settings:
            console.print(settings_table(pair, comparison))
    say_warnings(comparison, console)
    for sentence in conclusion(comparison):
        console.print(f"{sentence}.", markup=False, highlight=False)


def say_warnings(comparison: Comparison, console: Console) -> None:
    """What keeps the figures from being of the same thing."""
    found = [text for side in comparison.sides for text in warnings_within(side)]
    found += [f"{pair.label}: {text}" for pair in comparison.pairs for text in pair.warnings]
    for text in dict.fromkeys(found):
        console.print(f"{text}.", style="yellow", markup=False, highlight=False)


def seeds_table(side: Side, ks: Sequence[int]) -> Table:
    """Scores by iteration, and of the champions: over the seeds of one side."""
    what = "t-intervals over seeds" if len(side.runs) > 1 else "intervals over problems"
    table = _table(f"{side.label}, seeds {_listed(side.seeds)} [95% {what}]")
    _columns(table, "policy", *(f"pass@{k}" for k in ks), "malformed", "truncated")
    rows = [(str(number), at(number)) for number in range(num_common_iterations(side))]
    for name, chosen in [*rows, ("best", best)]:
        shares = (score_of(side, key, chosen) for key in ("malformed_rate", "truncation_rate"))
        table.add_row(
            name,
            *(with_interval(score_of(side, f"pass_at_{k}", chosen)) for k in ks),
            *(f"{share.value:.3f}" if share else "-" for share in shares),
        )
    return table


def sides_table(comparison: Comparison) -> Table:
    """Each side's scores and what they cost."""
    ks = comparison.shown_ks
    table = _table("Held-out problems, without feedback [95% intervals]")
    headings = [f"{which}@{k}" for which in ("best", "last") for k in ks]
    _columns(table, "", *headings, "rollout tokens", "seconds", left=1)
    for side in comparison.sides:
        tokens = cost(side, lambda run: float(run.rollout_tokens(run.best.number)))
        seconds = cost(side, lambda run: run.seconds(run.best.number))
        table.add_row(
            side.label,
            *(with_interval(score_of(side, f"pass_at_{k}", best)) for k in ks),
            *(with_interval(score_of(side, f"pass_at_{k}", last)) for k in ks),
            f"{tokens.value:,.0f}" if tokens else "-",
            f"{seconds.value:,.0f}" if seconds else "-",
        )
    return table


def differences_table(pair: Pair, comparison: Comparison) -> Table:
    """Of a side from the first one, by iteration."""
    ks = comparison.shown_ks
    how = SIDES_SHARE[pair.best.shared]
    table = _table(f"{pair.label} minus {comparison.sides[0].label}; {how}")
    by_problem = ("better", "worse", "sign test p") if pair.best.p_value is not None else ()
    _columns(table, "policies", *(f"pass@{k}" for k in ks), *by_problem)
    rows = [*((str(number), each) for number, each in pair.by_iteration.items())]
    for name, each in [*rows, ("last", pair.last), ("best", pair.best)]:
        counts = (str(each.num_better), str(each.num_worse), f"{each.p_value or 0:.3f}")
        table.add_row(
            name,
            *(signed(each.scores.get(f"pass_at_{k}")) for k in ks),
            *(counts if by_problem else ()),
        )
    return table


def settings_table(pair: Pair, comparison: Comparison) -> Table:
    """The settings in which a side differs from the first one."""
    table = _table("Settings that differ")
    _columns(table, "setting", comparison.sides[0].label, pair.label, left=3)
    for change in pair.settings:
        table.add_row(change.path, change.before, change.after)
    return table


def finish(
    workspace: Workspace, comparison: Comparison, title: str, page: Path, console: Console
) -> None:
    """Record it in MLflow, and say where both are. A store that cannot be written is no reason to
    lose the page."""
    console.print(f"\nThe page: {page}", markup=False, highlight=False, soft_wrap=True)
    try:
        where = record(workspace, comparison, title, page)
    except LineageError as error:
        console.print(f"Not recorded in MLflow: {error}", style="yellow", markup=False)
        return
    console.print(f"In MLflow: {where}", markup=False, highlight=False, soft_wrap=True)


def _table(title: str) -> Table:
    return Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")


def _columns(table: Table, *headings: str, left: int = 0) -> None:
    for place, heading in enumerate(headings):
        justify = "left" if place < left else "right"
        table.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
