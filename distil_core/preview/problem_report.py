"""What `distil check-problems` found, in the terminal."""

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from distil_core.preview.problem_checks import (
    ACCEPTED,
    FIELD,
    CheckResult,
    Failure,
    ProblemReport,
)

_MOST_CHARACTERS = 300


def rendered_report(report: ProblemReport, num_shown: int) -> Group:
    """num_shown: failures of each check that are shown."""
    counts = ", ".join(f"{name} {count:,}" for name, count in report.counts.items())
    parts: list[RenderableType] = [Text(f"problems checked: {counts}", style="bold")]
    if report.answer_form != FIELD:
        parts.append(Text(f"an answer is given as {report.answer_form!r}"))
    parts += [_table(report), *_longest(report)]
    parts += [Text(complaint, style="bold red") for complaint in report.complaints]
    for check in report.checks:
        if check.failures:
            parts += [Text(), *_failures(check, num_shown)]
    if _none_accepted(report):
        parts += [
            Text(),
            Text(
                "No reference is right as it stands. Say how an answer is written, as in "
                "--answer-form '<answer>{reference}</answer>', or name the verifier that reads "
                "these references (consult.verifier)",
                style="yellow",
            ),
        ]
    return Group(*parts)


def _table(report: ProblemReport) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("check", overflow="fold")
    for name in ("passed", "failed", "not asked"):
        table.add_column(name, justify="right", no_wrap=True)
    for check in report.checks:
        failed = Text(f"{check.num_failed:,}", style="bold red" if check.num_failed else "green")
        skipped = f"{check.num_skipped:,}" if check.num_skipped else ""
        table.add_row(check.name, f"{check.num_passed:,}", failed, skipped)
    return table


def _longest(report: ProblemReport) -> list[RenderableType]:
    student, expert = report.longest
    return [Text(f"longest contexts: the student's {student} tokens, the expert's {expert}")]


def _failures(check: CheckResult, num_shown: int) -> list[RenderableType]:
    parts: list[RenderableType] = [Text(f"not so: {check.name}", style="bold red")]
    parts += [line for failure in check.failures[:num_shown] for line in _failure(failure)]
    if check.num_failed > num_shown:
        parts.append(Text(f"  and {check.num_failed - num_shown:,} more", style="dim"))
    return parts


def _failure(failure: Failure) -> list[Text]:
    return [
        Text(f"  {failure.where}"),
        Text(f"    prompt  {_short(failure.prompt)}"),
        Text(f"    answer  {_short(failure.given)}"),
        Text(f"    found   {failure.found[:_MOST_CHARACTERS]}", style="yellow"),
    ]


def _short(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= _MOST_CHARACTERS else f"{shown[:_MOST_CHARACTERS]}…"


def _none_accepted(report: ProblemReport) -> bool:
    [accepted] = [check for check in report.checks if check.name == ACCEPTED]
    return bool(accepted.failures) and not accepted.num_passed
