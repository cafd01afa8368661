"""How long-running work reports its progress: a callback, so that only front doors draw
anything."""

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

ProgressCallback = Callable[[int, int], None]
"""Called with (done, total) from the working thread; must be cheap and must not raise."""

_SHOWN = ("loss", "reward")


@runtime_checkable
class ShowsFigures(Protocol):
    """A callback that also shows figures of the work, as it is done."""

    def figures(self, step: int, values: Mapping[str, float]) -> None:
        """After `step` steps or pieces; must be cheap and must not raise."""
        ...


def no_progress(done: int, total: int) -> None:
    """The callback of a caller that does not watch."""


def report_figures(progress: ProgressCallback, step: int, values: Mapping[str, float]) -> None:
    """Report figures such as the loss of a step, where the callback shows some."""
    if isinstance(progress, ShowsFigures):
        progress.figures(step, values)


def shown_figures(values: Mapping[str, float]) -> str:
    """The figures that a line has room for: 'loss 0.412'."""
    return ", ".join(f"{name} {values[name]:.3f}" for name in _SHOWN if name in values)
