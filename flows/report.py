"""A campaign's results for people: the table on screen and the pages in Prefect."""

import base64
import io
import json
import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from distil_core.campaign.iterations import existing_iterations
from distil_core.checks.limits import Finding
from distil_core.evaluation.better_expert import ExpertGain
from distil_core.evaluation.decision import GateDecision, read_decision
from distil_core.evaluation.learning_curve import learning_curve_figure, pass_at_ks
from distil_core.lineage.dvc.stage import StageOutcome
from distil_core.lineage.mlflow.address import has_server, shown, tracking_uri
from distil_core.workspace import Workspace

if TYPE_CHECKING:
    from distil_core.report.write import WrittenReport

SHORT_DIGEST = 8

LOCAL_PAGES = "http://127.0.0.1:5000"
"""Where `distil ui` shows MLflow's pages unless it is given another port."""

_MEASURED = {
    "truncation_rate": ("cut", ".1%"),
    "malformed_rate": ("malformed", ".1%"),
    "expert_gain": ("expert gain", "+.3f"),
}
"""What pass@k does not show of an evaluation, with the heading and form of its column."""

_LEAST_NEEDED = ("seconds", "malformed", "expert gain", "cut", "gate")

_COMPARED = ("response_tokens_mean", "truncation_rate", "malformed_rate")


def read_metrics(workspace: Workspace, iteration: int) -> dict[str, float]:
    """The iteration's metrics.json; empty while it has none."""
    path = workspace.metrics_file(iteration)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def stage_seconds(workspace: Workspace, iteration: int) -> float | None:
    """Seconds the iteration's stages took when they last ran here; None if they never did."""
    path = workspace.timings_file(iteration)
    if not path.exists():
        return None
    return float(sum(json.loads(path.read_text(encoding="utf-8")).values()))


def campaign_table(workspace: Workspace, iterations: Sequence[int], width: int = 120) -> Table:
    """A row for each iteration that has been evaluated: smallest and largest pass@k, shares of its
    responses that were cut or broke the format, what the expert gains over it, its gate, time.

    width: in characters. Where the table is wider, intervals are left out, then whole columns from
    the last in `_LEAST_NEEDED`; no number is ever cut.
    """
    rows = [(i, metrics) for i in iterations if (metrics := read_metrics(workspace, i))]
    with_intervals = _columns(workspace, rows, True)
    columns = with_intervals
    if table_width(columns) > width:
        columns = _columns(workspace, rows, False)
    for heading in _LEAST_NEEDED:
        if table_width(columns) > width:
            columns.pop(heading, None)
    note = " [95% intervals]" if columns is with_intervals else ""
    table = Table(title=f"Held-out problems, without feedback{note}", box=box.SIMPLE_HEAD)
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*cells)
    return table


def _columns(
    workspace: Workspace, rows: Sequence[tuple[int, Mapping[str, float]]], with_intervals: bool
) -> dict[str, list[str]]:
    """The table's cells by heading, without columns that no iteration has anything for."""
    ks = pass_at_ks(rows[-1][1]) if rows else []
    columns = {"iteration": [str(iteration) for iteration, _ in rows]}
    for k in sorted({ks[0], ks[-1]}) if ks else []:
        columns[f"pass@{k}"] = [
            _with_interval(metrics, k)
            if with_intervals
            else _number(metrics.get(f"pass_at_{k}"), ".3f")
            for _, metrics in rows
        ]
    for name, (heading, form) in _MEASURED.items():
        if any(name in metrics for _, metrics in rows):
            columns[heading] = [_number(metrics.get(name), form) for _, metrics in rows]
    columns["gate"] = [gate_verdict(workspace, iteration) for iteration, _ in rows]
    columns["seconds"] = [
        _number(stage_seconds(workspace, iteration), ".1f") for iteration, _ in rows
    ]
    return columns


def table_width(columns: Mapping[str, Sequence[str]]) -> int:
    """In characters, of a table of these cells, each between blanks, with one more before the next
    and around."""
    return 1 + sum(3 + max(len(heading), *map(len, cells), 0) for heading, cells in columns.items())


def gate_verdict(workspace: Workspace, iteration: int) -> str:
    """The iteration's gate's verdict on its policy in a word or two; '' for the base."""
    if not workspace.decision_file(iteration).exists():
        return ""
    return read_decision(workspace, iteration).verdict


def report_page(workspace: Workspace, campaign: str, written: "WrittenReport") -> str:
    """Markdown: the learning curve, and how to open the report. Browsers follow no link from a
    server's page to a file, so the link is to the copy in MLflow."""
    iterations = existing_iterations(workspace)
    metrics = {i: found for i in iterations if (found := read_metrics(workspace, i))}
    lines = [f"# {campaign}", ""]
    if metrics and pass_at_ks(metrics[max(metrics)]):
        picture = io.BytesIO()
        learning_curve_figure(metrics).savefig(picture, format="png")
        content = base64.b64encode(picture.getvalue()).decode()
        lines += [f"![Held-out pass@k over iterations](data:image/png;base64,{content})", ""]
    if written.page:
        store = tracking_uri(workspace)
        server = shown(store).rstrip("/") if has_server(store) else LOCAL_PAGES
        when = "" if has_server(store) else ", while `distil ui` runs in the workspace"
        lines += [f"- [The whole report in MLflow]({server}/{written.page}){when}"]
    lines += [f"- as a file on {platform.node()}: `{written.file}`"]
    return "\n".join(lines) + "\n"


def stage_rows(outcomes: Sequence[StageOutcome]) -> list[dict[str, Any]]:
    """What happened to each stage, as rows of a table."""
    return [
        {
            "stage": outcome.address,
            "status": outcome.status,
            "seconds": round(outcome.seconds, 1),
            "outputs": ", ".join(
                f"{path} {md5[:SHORT_DIGEST]}" for path, md5 in outcome.outputs.items()
            ),
        }
        for outcome in outcomes
    ]


def check_rows(found: Sequence[Finding]) -> list[dict[str, str]]:
    """The checks' values and what is beyond limits, as rows of a table."""
    return [
        {
            "table": finding.table,
            "check": finding.check,
            "value": finding.shown,
            "result": finding.level,
            "limit": "" if finding.limit is None else f"{finding.limit:g}",
        }
        for finding in found
    ]


def iteration_page(
    iteration: int,
    outcomes: Sequence[StageOutcome],
    metrics: Mapping[str, float],
    parent_metrics: Mapping[str, float],
    decision: GateDecision | None = None,
    found: Sequence[Finding] = (),
    expert: ExpertGain | None = None,
) -> str:
    """Markdown: the evaluation beside the parent's, the gate's decision, what the checks of the
    tables found, and what happened to each stage. expert: of the evaluation; first where it is not
    better than the policy."""
    lines = [f"# Iteration {iteration}", ""]
    if expert and not expert.is_better:
        lines += [f"> \U0001f534 **ALARM: {expert.words}.**", ""]
    if metrics:
        lines += ["## Held-out evaluation", "", *_comparison(metrics, parent_metrics), ""]
    if decision:
        lines += ["## Gate", "", *_gate_lines(decision), ""]
    if found:
        lines += ["## Checks", "", *_check_lines(found), ""]
    lines += ["## Stages", "", "| stage | status | seconds | outputs (md5) |", "|---|---|---:|---|"]
    lines += [
        f"| {row['stage']} | {row['status']} | {row['seconds']} | {row['outputs']} |"
        for row in stage_rows(outcomes)
    ]
    return "\n".join(lines) + "\n"


def _check_lines(found: Sequence[Finding]) -> list[str]:
    lines = ["| table | check | value | result |", "|---|---|---:|---|"]
    for row in check_rows(found):
        result = f"**{row['result']}** beyond {row['limit']}" if row["limit"] else row["result"]
        lines.append(f"| {row['table']} | {row['check']} | {row['value']} | {result} |")
    return lines


def _gate_lines(decision: GateDecision) -> list[str]:
    difference = decision.from_champion["pass_at_1"]
    verdict = "Promoted to champion" if decision.promoted else f"Not promoted: {decision.reasons}"
    return [
        f"{verdict}. pass@1 on the same problems, against policy {decision.compared_with}: "
        f"{difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]. The next "
        f"iteration starts from policy {decision.handed_over}."
        + (f" Of that policy, {decision.expert.words}." if decision.expert else "")
    ]


def _comparison(metrics: Mapping[str, float], parent: Mapping[str, float]) -> list[str]:
    lines = ["| metric | value | 95% interval | parent | change |", "|---|---:|---:|---:|---:|"]
    names = [f"pass_at_{k}" for k in pass_at_ks(metrics)]
    for name in (*names, *(name for name in _COMPARED if name in metrics)):
        value, before = metrics[name], parent.get(name)
        low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
        change = None if before is None else value - before
        lines.append(
            f"| {name} | {value:.3f} | {_interval(low, high)} | {_number(before, '.3f')} "
            f"| {_number(change, '+.3f')} |"
        )
    return lines


def _with_interval(metrics: Mapping[str, float], k: int) -> str:
    name = f"pass_at_{k}"
    interval = _interval(metrics.get(f"{name}_low"), metrics.get(f"{name}_high"))
    return f"{_number(metrics.get(name), '.3f')} {interval}"


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"[{low:.3f}, {high:.3f}]"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
