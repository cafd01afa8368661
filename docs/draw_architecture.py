"""`make architecture` draws docs/architecture.svg: the rooms of the code and which imports which.

Rooms stand in the order that import-linter's contracts in pyproject.toml ask for, so that every
arrow runs down; one that ran up would be drawn on the left, in red. Left out is an arrow that a
chain of others implies. `--check` compares with the file that is there, for CI.
"""

import itertools
import sys
import textwrap
import tomllib
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import grimp

PROJECT = Path(__file__).parents[1]
DRAWING = PROJECT / "docs" / "architecture.svg"
_ROW, _TOP, _LEFT, _WIDTH = 38, 30, 60, 180
_LINEAGE = "distil_core.lineage"


@dataclass(frozen=True)
class Room:
    """A folder (or one file) of the code. layer: 0 is the top. note: what it is for."""

    module: str
    layer: int
    note: str

    @property
    def name(self) -> str:
        return self.module.removeprefix("distil_core.").replace(".", "/")


def rooms() -> list[Room]:
    """From top to bottom, as the contracts order them."""
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    layers: dict[str, list[str]] = {}
    for contract in contracts:
        if contract["type"] == "layers":
            container = (contract.get("containers") or [""])[0]
            layers[container] = contract["layers"]
    found: list[Room] = []
    number = itertools.count()
    for floor in layers[""]:
        if floor != "distil_core":
            found.append(_room(floor, next(number)))
            continue
        for row in layers["distil_core"]:
            layer = next(number)
            for name in row.split(" | "):
                inner = layers.get(f"distil_core.{name}")
                if inner is None:
                    found.append(_room(f"distil_core.{name}", layer))
                    continue
                for wings in inner:
                    layer = next(number)
                    found += [
                        _room(f"distil_core.{name}.{wing}", layer) for wing in wings.split(" | ")
                    ]
    return found


def arrows(drawn: list[Room]) -> dict[tuple[str, str], int]:
    """How many imports lead from one room to another, by the rooms' modules."""
    graph = grimp.build_graph("distil_flows", "distil_tasks", "distil_core", cache_dir=None)
    room_of = {
        module: room.module
        for room in sorted(drawn, key=lambda room: len(room.module))
        for module in {room.module, *graph.find_descendants(room.module)}
    }
    counts: dict[tuple[str, str], int] = {}
    for module, room in room_of.items():
        for imported in graph.find_modules_directly_imported_by(module):
            target = room_of.get(imported)
            if target is not None and target != room:
                counts[room, target] = counts.get((room, target), 0) + 1
    return counts


def without_implied(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The arrows that no chain of other arrows implies."""
    after = {source: {b for a, b in pairs if a == source} for source, _ in pairs}

    def reachable(source: str, seen: frozenset[str]) -> frozenset[str]:
        for target in after.get(source, ()):
            if target not in seen:
                seen = reachable(target, seen | {target})
        return seen

    return {
        (source, target)
        for source, target in pairs
        if not any(
            target in reachable(other, frozenset())
            for other in after[source]
            if other != target and source not in reachable(other, frozenset())
        )
    }


def svg() -> str:
    """The drawing as text; the same code gives the same bytes."""
    drawn = rooms()
    counts = arrows(drawn)
    place = {room.module: index for index, room in enumerate(drawn)}
    kept = without_implied(set(counts))
    ends = sorted((place[a], place[b], counts[a, b]) for a, b in kept)
    lines = [_arrow(*end) for end in ends]
    height = _TOP + _ROW * len(drawn) + 10
    boxes = "\n".join(
        _box(room, index, drawn[index - 1].layer if index else None)
        for index, room in enumerate(drawn)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="960" height="{height}" '
        f'viewBox="0 0 960 {height}" font-family="sans-serif">\n'
        f'<rect width="960" height="{height}" fill="#ffffff"/>\n'
        f'<text x="{_LEFT}" y="18" font-size="12" fill="#5a5f66">An arrow says “imports”; '
        "its width goes with the number of imports. Arrows that others imply are left out.</text>\n"
        + "\n".join(lines)
        + f"\n{boxes}\n</svg>\n"
    )


def main() -> None:
    """Write the drawing, or with `--check` exit with 1 where the file is another."""
    text = svg()
    if "--check" not in sys.argv[1:]:
        DRAWING.write_text(text, encoding="utf-8")
    elif not DRAWING.exists() or DRAWING.read_text(encoding="utf-8") != text:
        sys.exit("docs/architecture.svg is not of this code: run `make architecture`")


def _room(module: str, layer: int) -> Room:
    path = PROJECT / "src" / module.replace(".", "/")
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    docstring = source.read_text(encoding="utf-8").split('"""')[1]
    first = docstring.split("\n\n")[0].replace("\n", " ")
    return Room(module, layer, first)


def _arrow(source: int, target: int, count: int) -> str:
    middle = [_TOP + _ROW * (row + 0.5) for row in (source, target)]
    up = target < source
    side, x = (-1, _LEFT) if up else (1, _LEFT + _WIDTH)
    # Apart, so that what leaves a room and what enters it do not meet.
    start, end = middle[0] + 7, middle[1] - 7
    bow = x + side * (14 + 13 * abs(target - source) ** 0.8)
    color = "#c0392b" if up else "#1f5fa8"
    width = min(4.0, 0.8 + 0.35 * count**0.5)
    return (
        f'<path d="M{x} {start:.0f}C{bow:.0f} {start:.0f} {bow:.0f} {end:.0f} {x + side * 5} '
        f'{end:.0f}" fill="none" stroke="{color}" stroke-width="{width:.1f}" opacity="0.6"/>'
        f'<path d="M{x} {end:.0f}l{side * 8} -4v8z" fill="{color}"/>'
    )


def _box(room: Room, index: int, layer_above: int | None) -> str:
    y = _TOP + _ROW * index
    floor = room.module.split(".")[0]
    fill = {"distil_flows": "#f6e7d2", "distil_tasks": "#e6f0dc"}.get(floor, "#e8eef6")
    inset = 20 if room.module.startswith(f"{_LINEAGE}.") else 0
    line = "" if layer_above == room.layer else f'<path d="M20 {y}H940" stroke="#d9dde3"/>'
    notes = "".join(
        f'<text x="430" y="{y + 17 + 13 * row}" font-size="10.5" fill="#30363d">'
        f"{escape(text)}</text>"
        for row, text in enumerate(textwrap.wrap(room.note, 94, max_lines=2, placeholder=" …"))
    )
    return (
        f"{line}"
        f'<rect x="{_LEFT + inset}" y="{y + 5}" width="{_WIDTH - inset}" height="{_ROW - 10}" '
        f'rx="4" fill="{fill}" stroke="#8a94a3"/>'
        f'<text x="{_LEFT + inset + 10}" y="{y + 24}" font-size="14">{escape(room.name)}</text>'
        f"{notes}"
    )


if __name__ == "__main__":
    main()
