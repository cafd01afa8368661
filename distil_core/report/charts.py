"""Charts as inline SVG. Colours are the page's own (CSS classes), so light and dark both work."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from math import ceil, floor, log10

from markupsafe import Markup

_WIDTH, _HEIGHT = 480, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 88, 14, 42
_LABEL_GAP = 15.0
NUM_COLOURS = 6
_MAX_TICKS = 10

_Scale = Callable[[float], float]


@dataclass(frozen=True)
class Series:
    """A line through (x, y), with the interval (low, high) at each x if there is one.

    label: written at the end of the line. dashed: for quantities measured in another way than the
    rest.
    """

    label: str
    xs: Sequence[float]
    ys: Sequence[float]
    lows: Sequence[float] = ()
    highs: Sequence[float] = ()
    colour: int = 0
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """A line chart. x_ticks, y_ticks: (place, text). description: alternative text for screen
    readers."""

    series: Sequence[Series]
    x_label: str
    y_label: str
    description: str
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    marks: Sequence[tuple[float, str]] = field(default=())

    def svg(self) -> Markup:
        """The chart as an `<svg>` element."""
        x_low, x_high = self.x_ticks[0][0], self.x_ticks[-1][0]
        y_low, y_high = self.y_ticks[0][0], self.y_ticks[-1][0]

        def x(value: float) -> float:
            span = (x_high - x_low) or 1.0
            return _LEFT + (value - x_low) / span * (_WIDTH - _LEFT - _RIGHT)

        def y(value: float) -> float:
            span = (y_high - y_low) or 1.0
            return _HEIGHT - _BOTTOM - (value - y_low) / span * (_HEIGHT - _TOP - _BOTTOM)

        parts = [
            f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
            f'aria-label="{escape(self.description)}">'
        ]
        parts += self._axes(x, y)
        for series in self.series:
            parts += _line(series, x, y)
        heights = _spread([y(series.ys[-1]) for series in self.series])
        for series, height in zip(self.series, heights, strict=True):
            parts.append(
                f'<text class="c{series.colour % NUM_COLOURS} end" '
                f'x="{x(series.xs[-1]) + 9:.1f}" y="{height + 4:.1f}">{escape(series.label)}</text>'
            )
        parts.append("</svg>")
        return Markup("".join(parts))

    def _axes(self, x: _Scale, y: _Scale) -> list[str]:
        right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
        parts = []
        for value, text in self.y_ticks:
            parts.append(
                f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y(value):.1f}" '
                f'y2="{y(value):.1f}"/><text class="tick" text-anchor="end" x="{_LEFT - 7}" '
                f'y="{y(value) + 4:.1f}">{escape(text)}</text>'
            )
        for value, text in self.x_ticks:
            parts.append(
                f'<text class="tick" text-anchor="middle" x="{x(value):.1f}" '
                f'y="{bottom + 17}">{escape(text)}</text>'
            )
        for value, text in self.marks:
            parts.append(
                f'<line class="mark" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{_TOP}" '
                f'y2="{bottom}"><title>{escape(text)}</title></line>'
            )
        middle = (_LEFT + right) / 2
        parts.append(
            f'<text class="label" text-anchor="middle" x="{middle:.1f}" y="{_HEIGHT - 6}">'
            f'{escape(self.x_label)}</text><text class="label" text-anchor="middle" '
            f'transform="translate(12 {(_TOP + bottom) / 2:.1f}) rotate(-90)">'
            f"{escape(self.y_label)}</text>"
        )
        return parts


def _line(series: Series, x: _Scale, y: _Scale) -> list[str]:
    colour = f"c{series.colour % NUM_COLOURS}"
    parts = []
    if series.lows:
        upper = [f"{x(a):.1f},{y(b):.1f}" for a, b in zip(series.xs, series.highs, strict=True)]
        lower = [f"{x(a):.1f},{y(b):.1f}" for a, b in zip(series.xs, series.lows, strict=True)]
        parts.append(f'<polygon class="band {colour}" points="{" ".join(upper + lower[::-1])}"/>')
    points = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in zip(series.xs, series.ys, strict=True))
    dashes = ' stroke-dasharray="5 4"' if series.dashed else ""
    parts.append(f'<polyline class="line {colour}" points="{points}"{dashes}/>')
    for index, (a, b) in enumerate(zip(series.xs, series.ys, strict=True)):
        ends = f" [{series.lows[index]:.3f}, {series.highs[index]:.3f}]" if series.lows else ""
        parts.append(
            f'<circle class="{colour}" cx="{x(a):.1f}" cy="{y(b):.1f}" r="3">'
            f"<title>{escape(series.label)}: {b:.3f}{ends}</title></circle>"
        )
    return parts


def unit_ticks() -> list[tuple[float, str]]:
    """Ticks for a share, from 0 to 1."""
    return [(value / 5, f"{value / 5:.1f}") for value in range(6)]


def integer_ticks(count: int) -> list[tuple[float, str]]:
    """0 .. count - 1, thinned out where there are many; always with the last one."""
    step = max(1, ceil((count - 1) / _MAX_TICKS))
    numbers = [*range(0, count - 1, step), count - 1] if count > 1 else [0, 1]
    return [(float(number), str(number)) for number in numbers]


def nice_ticks(values: Sequence[float], count: int = 5) -> list[tuple[float, str]]:
    """About `count` round numbers that enclose all values."""
    low, high = min(values), max(values)
    span = (high - low) or abs(high) or 1.0
    raw = span / count
    power = 10.0 ** _floor_log10(raw)
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw)
    first = int(low // step)
    last = int(-(-high // step))
    decimals = max(0, -_floor_log10(step) + (1 if step / power == 2.5 else 0))
    return [(index * step, f"{index * step:,.{decimals}f}") for index in range(first, last + 1)]


def _floor_log10(value: float) -> int:
    return floor(log10(value))


def _spread(heights: list[float]) -> list[float]:
    """Heights for labels in the same order, moved apart so that none overlap."""
    order = sorted(range(len(heights)), key=lambda index: (heights[index], index))
    placed = list(heights)
    for before, index in pairwise(order):
        placed[index] = max(placed[index], placed[before] + _LABEL_GAP)
    excess = max([0.0, *(place - (_HEIGHT - _BOTTOM) for place in placed)])
    return [place - excess for place in placed]
