"""Search in a corpus: pinned, in a fixed order, and as BM25 is defined."""

import hashlib
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distil_core.errors import ConfigError, DataError
from distil_core.testing import run_checks, tool_checks
from distil_core.tools import TOOLS

pytest.importorskip("bm25s", reason="the optional package bm25s is not installed")

PASSAGES = [
    {"title": "Otters", "text": "An otter holds hands with another otter while it sleeps."},
    {"title": "Rivers", "text": "A river ends in the sea. Otters live by it."},
    {"title": "Twins", "text": "The same words."},
    {"title": "Twins", "text": "The same words."},
    {"title": "Straße", "text": "Die Straße nach Zürich, über 100 km."},
]


def options_of(folder: Path, rows: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    path = folder / "corpus.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"corpus": {"path": str(path), "sha256": digest}, **options}


def found(options: dict[str, Any], query: str) -> str:
    return TOOLS.build("search", options).call("search", {"query": query}).text


def test_the_best_passages_come_first_with_their_titles(tmp_path: Path) -> None:
    options = options_of(tmp_path, PASSAGES, title_field="title", num_results=2)
    assert found(options, "otter") == f"[1] Otters: {PASSAGES[0]['text']}"
    assert found(options, "OTTERS live?").splitlines() == [
        f"[1] Rivers: {PASSAGES[1]['text']}",
        f"[2] Otters: {PASSAGES[0]['text']}",
    ]
    assert found(options, "STRASSE zürich").startswith("[1] Straße")


def test_nothing_is_found_where_no_word_is_there(tmp_path: Path) -> None:
    options = options_of(tmp_path, PASSAGES)
    assert found(options, "absent thing") == "Nothing was found."
    for query in ("", "?!", "\ud800", "\x00"):
        assert found(options, query) == "Nothing was found: the query has no word."


def test_equal_scores_keep_the_order_of_the_corpus(tmp_path: Path) -> None:
    rows = [{"text": f"word {name}"} for name in "edcba" * 20]
    options = options_of(tmp_path, rows, num_results=7)
    shown = "\n".join(f"[{rank}] word {name}" for rank, name in enumerate("edcbaed", 1))
    assert found(options, "word") == shown


def test_long_passages_are_shortened(tmp_path: Path) -> None:
    options = options_of(tmp_path, [{"text": "long " * 1000}], max_characters=20)
    assert found(options, "long") == "[1] long long long long  .."


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"corpus": {"path": "nowhere.jsonl", "sha256": ""}}, "cannot read the corpus"),
        ({"text_field": "body"}, r"line 1: expected text in body, found the fields text, title"),
    ],
)
def test_a_corpus_that_is_not_as_said_is_refused(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        TOOLS.build("search", options_of(tmp_path, PASSAGES) | change)


def test_another_content_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    options = options_of(tmp_path, PASSAGES)
    with pytest.raises(DataError, match="the settings say nothing yet"):
        TOOLS.build("search", {"corpus": options["corpus"] | {"sha256": ""}})
    with pytest.raises(DataError, match="no passage with a word"):
        TOOLS.build("search", options_of(tmp_path, [{"text": "..."}]))
    with pytest.raises(ConfigError, match="corpus"):
        TOOLS.build("search", {})


WORDS = st.sampled_from(["a", "b", "c", "d", "é"])
TEXTS = st.lists(st.lists(WORDS, min_size=1, max_size=8).map(" ".join), min_size=1, max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(TEXTS, st.lists(WORDS, min_size=1, max_size=4), st.floats(0.1, 3), st.floats(0, 1))
def test_scores_are_those_of_bm25(
    tmp_path: Path, texts: list[str], query: list[str], k1: float, b: float
) -> None:
    """Against the formula with Lucene's positive idf, in double precision."""
    rows = [{"text": text} for text in texts]
    tool: Any = TOOLS.build("search", options_of(tmp_path, rows, k1=k1, b=b))
    documents = [text.split() for text in texts]
    average = sum(map(len, documents)) / len(documents)
    expected = []
    for document in documents:
        counts, score = Counter(document), 0.0
        for word in query:
            having = sum(word in other for other in documents)
            if having:
                idf = math.log(1 + (len(documents) - having + 0.5) / (having + 0.5))
                length = 1 - b + b * len(document) / average
                score += idf * counts[word] / (counts[word] + k1 * length)
        expected.append(score)
    assert list(tool._index.get_scores(query)) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_contract(tmp_path: Path) -> None:
    calls = ['{"name": "search", "arguments": {"query": "otter"}}']
    results = run_checks(tool_checks("search", options_of(tmp_path, PASSAGES), calls))
    assert [result for result in results if result.outcome != "passed"] == []
