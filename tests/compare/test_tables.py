"""Tables on screen: at any width each number is whole, or its column is not there."""

import re
from io import StringIO

import pytest
from campaigns import make_campaign
from rich.console import Console

from distil_core.compare.compared import Comparison
from distil_core.compare.sides import read_sides, side_text
from distil_core.workspace import Workspace
from distil_flows.comparison import show_comparison

NUMBER = re.compile(r"[+-]?\d\.\d{3}")


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    root = tmp_path_factory.mktemp("campaigns")
    for name, share in (("a", 0.5), ("b", 0.8)):
        for seed in (1, 2):
            make_campaign(root / name / f"seed-{seed}", [0.2, share], seed)
    make_campaign(root / "c", [0.2, 0.6], 1, train__learning_rate=0.25)
    texts = [side_text(f"{name}={root}/{name}") for name in ("a", "b", "c")]
    return Comparison(read_sides(texts, Workspace(root)))


@pytest.mark.parametrize("width", [60, 72, 80, 100, 140])
def test_no_number_is_cut(comparison: Comparison, width: int) -> None:
    console = Console(width=width, record=True, file=StringIO())
    show_comparison(comparison, console)
    lines = console.export_text().splitlines()
    rows = [line for line in lines if re.search(r"\d\.\d", line) and line.startswith("  ")]
    assert rows
    assert not any("…" in line for line in rows)
    for line in rows:
        values = re.findall(r"[+-]?\d+\.\d+", line)
        settings = "train.learning_rate" in line
        assert settings or all(NUMBER.fullmatch(value) for value in values)
        # Both ends of an interval stand in the line in which it begins.
        assert line.count("[") == line.count("]")
    assert any(line.startswith("  best") for line in rows)
