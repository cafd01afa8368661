"""What a person at the terminal sees of a campaign: progress bars on a terminal, else plain
lines."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from distil_core.progress import ProgressCallback, shown_figures

LINE_EVERY_S = 30.0
"""How often a stage that takes long says how far it is where there are no bars."""


class Display:
    """Shows stages as they run. Where the console is not a terminal, one line for each and no
    bars."""

    def __init__(self, console: Console):
        self.console = console
        self._bars = (
            Progress(
                TextColumn("{task.description:<14}"),
                BarColumn(),
                MofNCompleteColumn(),
                _Rate(),
                _Figures(),
                TimeElapsedColumn(),
                console=console,
                transient=True,
            )
            if console.is_terminal
            else None
        )
        self._overall: TaskID | None = None

    @contextmanager
    def campaign(self, num_stages: int) -> Iterator[None]:
        """Show how many of `num_stages` are done while the block lasts."""
        token = _current.set(self)
        try:
            if self._bars is None:
                yield
            else:
                with self._bars:
                    self._overall = self._bars.add_task("all stages", total=num_stages)
                    yield
        finally:
            _current.reset(token)

    @contextmanager
    def stage(self, address: str) -> Iterator[ProgressCallback]:
        """Show one stage while the block lasts; the callback moves its bar."""
        if self._bars is None:
            yield Periodic(lambda text: self.line(f"{address:<14} {text}"))
            return
        bars = self._bars
        task = bars.add_task(address, total=None, rate=True)
        try:
            yield _Bar(bars, task)
        finally:
            bars.remove_task(task)

    def stage_done(self, address: str, status: str, seconds: float) -> None:
        """Print what happened to a stage, permanently, and count it."""
        self.line(f"{address:<14} {status:<10} {seconds:7.1f} s")
        if self._bars and self._overall is not None:
            self._bars.advance(self._overall)

    def line(self, text: str, style: str | None = None) -> None:
        """Print a line that stays. style: such as 'red'."""
        self.console.print(text, markup=False, highlight=False, style=style)


class _Bar:
    """Moves a stage's bar, and shows beside it the figures that came with the last step."""

    def __init__(self, bars: Progress, task: TaskID):
        self._bars, self._task = bars, task
        self._figures = ""

    def __call__(self, done: int, total: int) -> None:
        self._bars.update(self._task, completed=done, total=total, figures=self._figures)
        self._figures = ""

    def figures(self, step: int, values: Mapping[str, float]) -> None:
        self._figures = shown_figures(values)


def current_display() -> Display | None:
    """The display of the campaign that this process shows; None in Prefect's own processes."""
    return _current.get()


class Periodic:
    """A callback that reports progress with `say`, at most every `every_s` seconds, and the
    figures that came with it. Where it starts anew, as sampling does before verification, so does
    the rate."""

    def __init__(self, say: Callable[[str], None], every_s: float = LINE_EVERY_S):
        self._say, self._every_s = say, every_s
        self._began = self._moved = self._said = time.monotonic()
        self._done = 0
        self._figures = ""

    def __call__(self, done: int, total: int) -> None:
        now, shown = time.monotonic(), self._figures
        if done < self._done:
            self._began = self._moved
        self._done, self._moved, self._figures = done, now, ""
        if now - self._said >= self._every_s:
            self._said = now
            rate = f"{done / (now - self._began):.1f}/s"
            self._say(f"{done} of {total} ({rate}){shown}")

    def figures(self, step: int, values: Mapping[str, float]) -> None:
        """Keep them for the line of this step."""
        shown = shown_figures(values)
        self._figures = f", {shown}" if shown else ""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.fields.get("rate") and (task.finished_speed or task.speed)
        return Text(f"{speed:8.1f}/s" if speed else "", style="progress.data.speed")


class _Figures(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(task.fields.get("figures", ""))


_current: ContextVar[Display | None] = ContextVar("display", default=None)
