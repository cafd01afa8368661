"""Inline SVG: well-formed, with everything inside its box (1 s)."""

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distil_core.report.charts import Chart, Series, nice_ticks, unit_ticks

finite = st.floats(-1e6, 1e6).map(lambda value: round(value, 6))


@given(st.lists(finite, min_size=1, max_size=8), st.integers(2, 7))
def test_ticks_enclose_all_values_at_round_places(values: list[float], count: int) -> None:
    ticks = nice_ticks(values, count)
    places = [place for place, _ in ticks]
    assert places == sorted(places)
    span = places[-1] - places[0]
    assert places[0] <= min(values) + 1e-9 * (1 + span)
    assert places[-1] >= max(values) - 1e-9 * (1 + span)
    assert 1 <= len(ticks) <= count + 3
    assert len({text for _, text in ticks}) == len(ticks), "no two ticks read alike"


def chart(*series: Series) -> ET.Element:
    svg = Chart(
        series,
        "iteration <0>",
        "pass@k",
        'a "description" & more',
        [(0.0, "0"), (1.0, "1")],
        unit_ticks(),
        marks=[(1.0, "not promoted")],
    ).svg()
    return ET.fromstring(svg)


def test_lines_bands_and_escaped_text() -> None:
    root = chart(
        Series("a<b>", [0, 1], [0.2, 0.8], [0.1, 0.7], [0.3, 0.9]),
        Series("plain", [0, 1], [0.5, 0.5], colour=1, dashed=True),
    )
    assert len(root.findall("polyline")) == 2
    assert len(root.findall("polygon")) == 1
    assert root.get("aria-label") == 'a "description" & more'
    texts = [text.text for text in root.findall("text")]
    assert "a<b>" in texts
    assert "iteration <0>" in texts
    titles = [title.text for title in root.iter("title")]
    assert "a<b>: 0.800 [0.700, 0.900]" in titles
    assert "not promoted" in titles


@pytest.mark.parametrize("height", [0.0, 0.5, 1.0])
def test_labels_that_would_overlap_are_moved_apart_and_stay_inside(height: float) -> None:
    root = chart(*(Series(f"line {i}", [0, 1], [0.1, height], colour=i) for i in range(5)))
    places = [
        float(text.get("y", "")) for text in root.findall("text") if "end" in text.get("class", "")
    ]
    gaps = [b - a for a, b in zip(sorted(places), sorted(places)[1:], strict=False)]
    assert min(gaps) > 12
    _, _, _, box = map(float, re.split(r"\s+", root.get("viewBox", "")))
    assert 0 < min(places) < max(places) < box
