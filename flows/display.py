"""What a person at the terminal sees of a campaign: progress bars on a terminal, else plain
lines."""

import time
from collections.abc import Callable, Iterator
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

from distil_core.progress import ProgressCallback

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
            yield periodic(lambda text: self.line(f"{address:<14} {text}"))
            return
        bars = self._bars
        task = bars.add_task(address, total=None, rate=True)

        def report(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total)

        try:
            yield report
        finally:
            bars.remove_task(task)

    def stage_done(self, address: str, status: str, seconds: float) -> None:
        """Print what happened to a stage, permanently, and count it."""
        self.line(f"{address:<14} {status:<10} {seconds:7.1f} s")
        if self._bars and self._overall is not None:
            self._bars.advance(self._overall)

    def line(self, text: str) -> None:
        """Print a line that stays."""
        self.console.print(text, markup=False, highlight=False)


def current_display() -> Display | None:
    """The display of the campaign that this process shows; None in Prefect's own processes."""
    return _current.get()


def periodic(say: Callable[[str], None], every_s: float = LINE_EVERY_S) -> ProgressCallback:
    """A callback that reports progress with `say`, at most every `every_s` seconds."""
    started = last = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= every_s:
            last = now
            say(f"{done} of {total} ({done / (now - started):.1f}/s)")

    return report


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.fields.get("rate") and (task.finished_speed or task.speed)
        return Text(f"{speed:8.1f}/s" if speed else "", style="progress.data.speed")


_current: ContextVar[Display | None] = ContextVar("display", default=None)
