"""Problems from stored rows: checked for duplicates and leaks, split, in a seeded order."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from string import Formatter
from typing import Any

from distil_core.errors import DataError
from distil_core.problems._row_options import RowOptions
from distil_core.problems.base import Problem
from distil_core.problems.row_formats import ROW_FORMATS, Row, RowFormat
from distil_core.seeds import generator

LocatedRow = tuple[str, Row]
"""A row with where it stands: file, and line or row."""
ReadRows = Callable[[str], Iterator[LocatedRow]]
"""The rows of 'train' or 'eval', in the file's order."""

# Between digits a point or comma is part of a number; signs of arithmetic always count.
_PUNCTUATION = re.compile(r"(?<!\d)[.,]|[.,](?!\d)|[;:!?\"'`\u2018\u2019\u201c\u201d\u2026]")


@dataclass(frozen=True)
class _Located:
    problem: Problem
    where: str
    row_id: str | None
    normalised: str


class RowSource:
    """The problems of two files, or of one that is split by hash.

    Equal rows count once. Raises `DataError`, naming file and line or row, for what is no row of
    the format, for equal prompts with different references, and for leaks unless they are dropped.
    """

    def __init__(self, options: RowOptions, read_rows: ReadRows):
        self._options = options
        self._read_rows = read_rows
        self._row_format = _row_format(options)
        self._splits: dict[str, list[Problem]] | None = None
        self._report: dict[str, Any] = {}

    def problems(self, split: str, seed: int) -> Iterator[Problem]:
        """The eval problems, or for any other split the training problems."""
        problems = self._loaded()["eval" if split == "eval" else "train"]
        for index in generator(seed, "problems", split).permutation(len(problems)):
            yield problems[index]

    def alphabet(self) -> str:
        """Nothing of its own: these problems are for models with a tokenizer."""
        return ""

    def report(self) -> dict[str, Any]:
        """What was found: rows, duplicates and near-duplicates of each split, and leaks."""
        self._loaded()
        return self._report

    def _loaded(self) -> dict[str, list[Problem]]:
        if self._splits is None:
            self._splits = self._load()
        return self._splits

    def _load(self) -> dict[str, list[Problem]]:
        by_id: dict[str, _Located] = {}
        by_prompt: dict[str, _Located] = {}
        if self._options.eval_fraction is None:
            splits = {
                split: self._unique(split, self._read(split), by_id, by_prompt)
                for split in ("eval", "train")
            }
        else:
            located = self._unique("all", self._read("train"), by_id, by_prompt)
            splits = _split_by_hash(located, self._options.eval_fraction)
        splits["train"] = self._without_leaks(splits)
        return {split: [located.problem for located in found] for split, found in splits.items()}

    def _read(self, split: str) -> list[_Located]:
        found = [self._located(where, row) for where, row in self._read_rows(split)]
        if not found:
            raise DataError(f"the {split} problems' file holds no rows: expected at least one")
        return found

    def _located(self, where: str, row: Row) -> _Located:
        row_id = self._row_id(where, row)
        try:
            problem = self._row_format(row)
            # Half a surrogate pair, which JSON can hold, is no character of any text.
            "".join((problem.prompt, problem.reference)).encode()
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            text = f"no field {error}" if isinstance(error, KeyError) else str(error)
            raise DataError(f"{where}: {text}; the row has {_described(row)}") from error
        return _Located(problem, where, row_id, normalised(problem.prompt))

    def _row_id(self, where: str, row: Row) -> str | None:
        if self._options.id_field is None:
            return None
        row_id = row.get(self._options.id_field)
        if not isinstance(row_id, (str, int)) or isinstance(row_id, bool):
            raise DataError(
                f"{where}: expected {self._options.id_field!r} (id_field) to be text or a whole "
                f"number, found {row_id!r}"
            )
        return str(row_id)

    def _unique(
        self,
        split: str,
        found: list[_Located],
        by_id: dict[str, _Located],
        by_prompt: dict[str, _Located],
    ) -> list[_Located]:
        """Without repetitions inside the split. Contradictions are looked for in all splits."""
        unique: dict[str, _Located] = {}
        for one in found:
            _require_agreement(one, by_id, by_prompt)
            unique.setdefault(one.problem.prompt, one)
        self._report[split] = {
            "rows": len(found),
            "duplicates": len(found) - len(unique),
            "near_duplicates": len(unique) - len({one.normalised for one in unique.values()}),
        }
        return list(unique.values())

    def _without_leaks(self, splits: dict[str, list[_Located]]) -> list[_Located]:
        held_out = {one.normalised: one for one in splits["eval"]}
        leaks = [one for one in splits["train"] if one.normalised in held_out]
        self._report["leaks"] = len(leaks)
        if leaks and self._options.on_leak == "refuse":
            first = leaks[0]
            raise DataError(
                f"{len(leaks)} training problems are also eval problems, letter case, blanks and "
                f"punctuation aside; the first is {first.where}, which repeats "
                f"{held_out[first.normalised].where}. Remove them, or set on_leak: drop in "
                "problems.source.options"
            )
        return [one for one in splits["train"] if one.normalised not in held_out]


def normalised(text: str) -> str:
    """The text without differences of letter case, blanks, and punctuation that is no part of a
    number or formula: near-duplicates have the same."""
    return " ".join(_PUNCTUATION.sub(" ", unicodedata.normalize("NFC", text).casefold()).split())


def _split_by_hash(found: list[_Located], eval_fraction: float) -> dict[str, list[_Located]]:
    """By the row's id, else by the normalised prompt, so that where a problem falls depends on
    nothing else in the file."""
    splits: dict[str, list[_Located]] = {"eval": [], "train": []}
    for one in found:
        key = one.normalised if one.row_id is None else one.row_id
        digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
        is_eval = int.from_bytes(digest, "big") < eval_fraction * 2**64
        splits["eval" if is_eval else "train"].append(one)
    return splits


def _require_agreement(
    one: _Located, by_id: dict[str, _Located], by_prompt: dict[str, _Located]
) -> None:
    other = by_prompt.setdefault(one.problem.prompt, one)
    if other.problem.reference != one.problem.reference:
        raise DataError(
            f"{one.where}: the prompt is that of {other.where}, but the reference differs "
            f"({one.problem.reference[-60:]!r} and {other.problem.reference[-60:]!r}): correct or "
            "remove one of them"
        )
    if one.row_id is None:
        return
    other = by_id.setdefault(one.row_id, one)
    if other.problem.prompt != one.problem.prompt:
        raise DataError(
            f"{one.where}: the id {one.row_id!r} is that of {other.where}, but the prompt differs: "
            "correct one of them, or name another id_field"
        )


def _row_format(options: RowOptions) -> RowFormat:
    if options.row_format is not None:
        row_format: RowFormat = ROW_FORMATS.build(options.row_format, {})
        return row_format
    return lambda row: _by_fields(options, row)


def _by_fields(options: RowOptions, row: Row) -> Problem:
    assert options.reference_field is not None, "checked when the options were read"
    reference = row[options.reference_field]
    if reference is None or reference == "":
        raise ValueError(
            f"expected a reference in {options.reference_field!r}, found {reference!r}"
        )
    if options.prompt_template is None:
        assert options.prompt_field is not None, "checked when the options were read"
        prompt = required_text(row, options.prompt_field)
    else:
        prompt = "".join(
            literal + ("" if field is None else _as_text(row, field))
            for literal, field, _, _ in Formatter().parse(options.prompt_template)
        )
    used = {options.prompt_field, options.reference_field}
    fields = options.metadata_fields
    names = [name for name in row if name not in used] if fields is None else fields
    return Problem(
        prompt,
        reference if isinstance(reference, str) else as_json(reference, options.reference_field),
        as_json({name: row[name] for name in names}, "metadata"),
    )


def required_text(row: Row, field: str) -> str:
    """A field that must hold text; `KeyError` or `ValueError` where it does not."""
    value = row[field]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{field!r} must be text that is not blank, found {value!r:.80}")
    return value


def _as_text(row: Row, field: str) -> str:
    return required_text(row, field) if isinstance(row[field], str) else as_json(row[field], field)


def as_json(value: Any, name: str) -> str:
    """Values as the JSON text that verifiers read; `ValueError` for what JSON cannot hold."""
    try:
        return json.dumps(value, sort_keys=True)
    except TypeError as error:
        raise ValueError(
            f"{name} cannot be kept as JSON ({error}): name the fields to keep in metadata_fields"
        ) from error


def _described(row: Row) -> str:
    return (
        ", ".join(f"{name} ({type(value).__name__})" for name, value in row.items()) or "no field"
    )
