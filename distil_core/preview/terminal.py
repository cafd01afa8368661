"""A preview in the terminal."""

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from distil_core.preview.findings import Finding
from distil_core.preview.views import (
    AttemptView,
    ContextView,
    PreviewView,
    ProblemView,
    Token,
    duration,
    memory_text,
)

_STYLES = {"problem": "bold red", "warning": "yellow", "good": "green"}
_VERDICTS = {"correct": "green", "wrong": "red"}
_MOST_TOKENS = 400


def rendered(view: PreviewView, num_examples: int = 1) -> Group:
    """num_examples: problems that are shown in full."""
    parts: list[RenderableType] = [
        Text(f"{view.campaign}: {view.policy}, {len(view.problems)} problems", style="bold")
    ]
    for problem in view.problems[:num_examples]:
        parts += [Text(), _problem(problem)]
    parts += [Text(), _figures(view), _costs(view), _findings(view.findings)]
    return Group(*parts)


def _findings(findings: Sequence[Finding]) -> Group:
    return Group(
        *(Text(f"{each.level:<8} {each.text}", style=_STYLES[each.level]) for each in findings)
    )


def _figures(view: PreviewView) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_header=False, padding=(0, 1))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(style="dim", overflow="fold")
    for row in view.rows:
        table.add_row(*map(Text, row))
    return table


def _costs(view: PreviewView) -> Group:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("A whole iteration, at this rate", style="bold")
    table.add_column("about", justify="right", no_wrap=True)
    table.add_column("for", style="dim", overflow="fold")
    for cost in view.estimate.costs:
        table.add_row(cost.part, duration(cost.seconds), cost.how)
    table.add_row("in all", duration(view.estimate.seconds), "larger batches are faster")
    return Group(table, Text(f"Memory: {memory_text(view.estimate)}."), Text())


def _problem(problem: ProblemView) -> Panel:
    one = problem.telling
    parts: list[RenderableType] = [
        *_context("student's context", problem.student),
        Text(),
        *_rollouts(problem.attempts, one),
    ]
    if one.expert is not None:
        parts += [Text(), *_context("expert's context", one.expert)]
        parts += [Text(), *_states(one)]
    if one.silent:
        parts.append(Text("the expert has nothing to say about this rollout", style="yellow"))
    if one.answer is not None:
        parts += [
            Text(),
            _heading("the expert's answer"),
            Text(one.answer),
            Text(f"{one.answer_verdict}, {one.answer_ending}", _style(one.answer_verdict)),
        ]
    return Panel(Group(*parts), title=f"problem {problem.problem_id}", title_align="left")


def _rollouts(attempts: Sequence[AttemptView], chosen: AttemptView) -> list[RenderableType]:
    parts: list[RenderableType] = [_heading(f"{len(attempts)} rollouts")]
    for one in attempts:
        verdict = f"{one.verdict}, {one.ending}"
        mark = "» " if one is chosen else "  "
        parts.append(Text.assemble(mark, (verdict, _style(one.verdict))))
        parts.append(Text(one.response))
        if one.error:
            parts.append(Text(f"no verdict: {one.error}", style="yellow"))
    parts.append(_heading("feedback on the one marked »"))
    parts += [Text(f"{kind}: {text}") for kind, text in chosen.feedback] or [Text("none")]
    return parts


def _context(name: str, context: ContextView) -> list[RenderableType]:
    text = Text()
    for segment in context.segments:
        text.append(segment.text, style="dim" if segment.is_template else "cyan")
    return [
        _heading(
            f"{name}: {len(context.tokens)} tokens, {context.beginning} (the template's own text "
            "is dim)"
        ),
        text,
        _row_of_tokens(context.tokens),
    ]


def _states(one: AttemptView) -> list[RenderableType]:
    return [
        _heading("the attempt's tokens, red where the expert finds another one likelier"),
        _row_of_tokens(one.tokens),
    ]


def _row_of_tokens(tokens: Sequence[Token]) -> Text:
    text = Text()
    for place, token in enumerate(tokens[:_MOST_TOKENS]):
        style = "on grey23" if place % 2 else "on grey11"
        if token.by_environment:
            style = "dim italic"
        text.append(token.text, style="bold red" if token.wanted is not None else style)
        if token.wanted is not None:
            text.append(f"→{token.wanted}", style="red")
    if len(tokens) > _MOST_TOKENS:
        text.append(f" … {len(tokens) - _MOST_TOKENS} more", style="dim")
    return text


def _heading(text: str) -> Text:
    return Text(text, style="underline")


def _style(verdict: str) -> str:
    return _VERDICTS.get(verdict, "yellow")
