"""Search in a local corpus: the passages that share the rarest words with a query (BM25)."""

import hashlib
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field, PositiveInt

from distil_core.errors import ConfigError, DataError
from distil_core.problems._pinned_files import PinnedFile, jsonl_rows
from distil_core.tools.base import Tool, ToolFunction, ToolOptions, ToolResult

if TYPE_CHECKING:
    from bm25s import BM25

_WORD = re.compile(r"\w+")
_PARAMETERS = {
    "type": "object",
    "properties": {"query": {"type": "string", "description": "Words to look for."}},
    "required": ["query"],
    "additionalProperties": False,
}


class Options(ToolOptions):
    """The corpus, and how it is searched."""

    corpus: PinnedFile
    """JSON Lines: one passage an object. Its content is pinned, as a problem file's is."""
    text_field: str = "text"
    """Of a passage's text, which is what is searched."""
    title_field: str | None = None
    """Of a passage's title, which is searched and shown as well."""
    num_results: PositiveInt = 3
    """Passages that a query finds at most."""
    max_characters: PositiveInt = 1000
    """Of a passage that are shown."""
    k1: Annotated[float, Field(ge=0, le=10)] = 1.5
    """BM25's: how much it counts that a word is there more than once."""
    b: Annotated[float, Field(ge=0, le=1)] = 0.75
    """BM25's: how much a long passage is held against it."""
    name: str = "search"
    """The function's name."""


class Search(Tool):
    """Passages in the order of their scores; of equal ones, that of the corpus. A passage that has
    none of the words is not found. Words are runs of letters and digits, whatever their case."""

    def __init__(self, options: Options):
        self._options = options
        corpus = options.corpus
        self._passages = _passages(
            corpus.path, corpus.sha256, options.text_field, options.title_field
        )
        self._index = _index(self._passages, options.k1, options.b)
        self._function = ToolFunction(
            options.name,
            f"Searches {len(self._passages)} passages for the words of a query.",
            _PARAMETERS,
        )

    @property
    def functions(self) -> tuple[ToolFunction, ...]:
        return (self._function,)

    def call(self, function: str, arguments: Mapping[str, Any]) -> ToolResult:
        """The passages found, numbered."""
        words = _words(arguments["query"])
        if not words:
            return ToolResult("Nothing was found: the query has no word.")
        scores = self._index.get_scores(words)
        best = np.argsort(-scores, kind="stable")[: self._options.num_results]
        found = [self._passages[index] for index in best if scores[index] > 0]
        if not found:
            return ToolResult("Nothing was found.")
        limit = self._options.max_characters
        shown = (text if len(text) <= limit else f"{text[:limit]} .." for text in found)
        return ToolResult("\n".join(f"[{rank}] {text}" for rank, text in enumerate(shown, 1)))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


@lru_cache(maxsize=4)
def _passages(path: str, sha256: str, text_field: str, title_field: str | None) -> tuple[str, ...]:
    """The passages as they are shown. Kept, as every rollout of a process has a tool. Raises
    `DataError`."""
    try:
        content = Path(path).expanduser().read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the corpus of the tool search, {path}: {error}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise DataError(
            f"the corpus {path} has SHA-256 {found}, the settings say {sha256 or 'nothing yet'}: "
            "if it is the one you mean, write that into the options of the tool search"
        )
    passages = []
    for where, row in jsonl_rows(content, path):
        parts = [row.get(field) for field in (title_field, text_field) if field is not None]
        if not all(isinstance(part, str) for part in parts):
            raise DataError(
                f"{where}: expected text in {' and '.join(filter(None, (title_field, text_field)))}"
                f", found the fields {', '.join(sorted(map(str, row)))}: name them by text_field "
                "and title_field"
            )
        passages.append(": ".join(map(str, parts)))
    if not any(map(_words, passages)):
        raise DataError(f"the corpus {path} has no passage with a word in it")
    return tuple(passages)


@lru_cache(maxsize=4)
def _index(passages: tuple[str, ...], k1: float, b: float) -> "BM25":
    try:
        from bm25s import BM25
    except ImportError as error:
        raise ConfigError(
            f"the tool search needs the package bm25s ({error}): `pip install 'distil[search]'`"
        ) from error
    index = BM25(k1=k1, b=b, method="lucene")
    index.index([_words(text) for text in passages], show_progress=False)
    return index


def build(options: Options) -> Search:
    """Reads and indexes the corpus, once for a process. Raises `DataError` for one that is not
    there or not as pinned."""
    return Search(options)
