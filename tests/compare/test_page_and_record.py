"""The comparison's page and its record in MLflow."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from campaigns import make_campaign

from distil_core.compare.compared import Comparison
from distil_core.compare.page import render_comparison
from distil_core.compare.sides import read_sides, side_text
from distil_core.compare.write import owner_of_record, record, write_page
from distil_core.lineage.mlflow.comparison import EXPERIMENT
from distil_core.lineage.mlflow.record import record_all
from distil_core.lineage.mlflow.store import open_store
from distil_core.workspace import Workspace

VOID = {"meta", "br", "line", "circle", "polyline", "polygon"}


class Page(HTMLParser):
    """Its text, and whether each element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [str(value) for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Comparison:
    monkeypatch.chdir(tmp_path)
    make_campaign(tmp_path / "a", [0.2, 0.5, 0.55])
    make_campaign(tmp_path / "b", [0.2, 0.8, 0.6], champion=1, train__learning_rate=0.25)
    return compared("plain & simple=a", "<b>=b")


def compared(*texts: str) -> Comparison:
    sides = read_sides([side_text(text) for text in texts], Workspace(Path.cwd()))
    return Comparison(sides)


def test_the_page_is_whole_and_loads_nothing(two: Comparison) -> None:
    text = render_comparison(two, "plain and b")
    page = Page(text)
    assert page.open == []
    assert all(link.startswith("#") for link in page.loaded)
    assert "<script" not in text
    assert "<b> against plain & simple, best policies: pass@1 +" in " ".join(page.words)
    for shown in ("train.learning_rate", "0.25", "paired by problem", "sign test p", "Seconds"):
        assert shown in text
    assert text.count("<svg") == 6
    assert "nan" not in text.lower().replace("nance", "")


def test_the_page_of_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed in (1, 2, 3):
        make_campaign(tmp_path / "seeds" / f"seed-{seed}", [0.2, 0.5], seed)
    text = render_comparison(compared("seeds"), "a campaign: 3 seeds")
    assert Page(text).open == []
    assert "champions of 3 seeds: mean 0." in text
    assert "seeds/seed-2" in text
    assert 'id="differences"' not in text
    assert 'id="settings"' not in text


def test_costs_that_are_not_known_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    workspace = make_campaign(tmp_path / "a", [0.2, 0.5])
    workspace.timings_file(1).unlink()
    text = render_comparison(compared("a"), "a")
    assert "Against rollout tokens." in text
    assert "Against time." not in text


def test_it_is_recorded_with_links_to_what_was_compared(two: Comparison, tmp_path: Path) -> None:
    first = Workspace(tmp_path / "a")
    recorded = record_all(first)
    page = write_page(two, "plain and b", tmp_path / "comparison.html")
    owner = owner_of_record(Workspace(tmp_path), two)
    assert owner == first
    where = record(owner, two, "plain and b", page)
    with open_store(owner) as client:
        experiment = client.get_experiment_by_name(EXPERIMENT)
        assert experiment is not None
        [run] = client.search_runs([experiment.experiment_id])
        assert run.info.run_id in where
        assert run.info.status == "FINISHED"
        assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["comparison.html"]
    tags, metrics = run.data.tags, run.data.metrics
    assert tags["distil.role"] == "comparison"
    # The policy of the first side is in this store, that of the second in its own.
    assert tags["distil.compared.A.seed_1.run_id"] == recorded[2].run_id
    assert "distil.compared.B.seed_1.run_id" not in tags
    assert re.match(r"chain-arithmetic/1 [0-9a-f]{10}", tags["distil.compared.B.seed_1"])
    assert f"/runs/{recorded[2].run_id}" in tags["mlflow.note.content"]
    assert run.data.params == {
        "side_A": "plain & simple",
        "side_B": "<b>",
        "seeds_A": "1",
        "seeds_B": "1",
    }
    difference = two.pairs[0].best.scores["pass_at_1"]
    assert metrics["B_minus_A/best/pass_at_1"] == difference.value
    assert metrics["B_minus_A/best/pass_at_1_low"] == difference.low
    assert metrics["A/best/pass_at_1"] == two.sides[0].runs[0].best.metrics["pass_at_1"]
    assert metrics["B/rollout_tokens"] == two.sides[1].runs[0].rollout_tokens(1)


def test_the_current_workspace_keeps_the_record(two: Comparison, tmp_path: Path) -> None:
    here = make_campaign(tmp_path / "here", [0.2, 0.5])
    assert owner_of_record(here, two) == here
