"""Problems from stored rows: checked for duplicates and leaks, split, in a seeded order."""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from distil_core.errors import DataError, VerifierError
from distil_core.problems._named_fields import NamedFields
from distil_core.problems._row_fields import MissingField, described, find
from distil_core.problems._row_options import RowOptions
from distil_core.problems.base import Problem
from distil_core.problems.messages import prompt_of
from distil_core.problems.refused import Refused
from distil_core.problems.row_formats import ROW_FORMATS, Row, RowFormat
from distil_core.seeds import generator

LocatedRow = tuple[str, Row]
"""A row with where it stands: file, and line or row."""
ReadRows = Callable[[str], Iterator[LocatedRow]]
"""The rows of 'train' or 'eval', in the file's order."""

# Between digits a point or comma belongs to a number; arithmetic signs always count.
_PUNCTUATION = re.compile(r"(?<!\d)[.,]|[.,](?!\d)|[;:!?\"'`\u2018\u2019\u201c\u201d\u2026]")


@dataclass(frozen=True)
class _Located:
    """A row and where it is. place: which part was read, and the row's number in it."""

    problem: Problem
    where: str
    place: tuple[str, int]
    row_id: str | None
    normalised: str


class RowSource:
    """The problems of two files, or of one file that is split by hash.

    Equal rows count once. Raises `DataError`, naming file and line or row, for rows that are not of
    the format, for equal prompts with different references, and for leaks unless they are dropped.
    """

    def __init__(self, options: RowOptions, read_rows: ReadRows):
        self._options = options
        self._read_rows = read_rows
        self._named: NamedFields | None = None
        self._row_format: RowFormat
        if options.row_format is None:
            self._row_format = self._named = NamedFields(options)
        else:
            self._row_format = ROW_FORMATS.build(options.row_format, {})
        self._splits: dict[str, list[_Located]] | None = None
        self._report: dict[str, Any] = {}

    def problems(self, split: str, seed: int) -> Iterator[Problem]:
        """The eval problems for that split; for any other split the training problems."""
        problems = self._loaded()["eval" if split == "eval" else "train"]
        for index in generator(seed, "problems", split).permutation(len(problems)):
            yield problems[index].problem

    def alphabet(self) -> str:
        """Empty: these problems are for models that have a tokenizer."""
        return ""

    def report(self) -> dict[str, Any]:
        """Counts of what was found: rows, duplicates and near-duplicates of each split, and
        leaks."""
        self._loaded()
        return self._report

    def require_readable(self, check_problem: Callable[[Problem], None]) -> None:
        """Check all rows, also those that are in no split now, as a larger split may include them.
        Raises `DataError` that names unreadable ones; with on_unreadable 'drop' they are left out
        and counted."""
        unreadable: dict[_Located, str] = {}
        for found in self._loaded().values():
            for one in found:
                try:
                    check_problem(one.problem)
                except VerifierError as error:
                    unreadable[one] = str(error)
        if not unreadable:
            return
        if self._options.on_unreadable == "refuse":
            refused = Refused()
            for one in sorted(unreadable, key=lambda one: one.place):
                refused.add(one.where, unreadable[one])
            total = sum(map(len, self._loaded().values()))
            raise DataError(
                f"{refused.count} of {total} problems have a reference or metadata that the "
                f"campaign's verifier (consult.verifier) cannot read:\n  {refused}\nCorrect or "
                "remove these rows, name the verifier that reads them, or set on_unreadable: drop "
                "in problems.source.options"
            )
        self._splits = {
            split: [one for one in found if one not in unreadable]
            for split, found in self._loaded().items()
        }
        self._report["unreadable"] = len(unreadable)

    def _loaded(self) -> dict[str, list[_Located]]:
        if self._splits is None:
            self._splits = self._load()
        return self._splits

    def _load(self) -> dict[str, list[_Located]]:
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
        self._require_fields_found()
        splits["train"] = self._without_leaks(splits)
        return splits

    def _require_fields_found(self) -> None:
        """Refuse a field that no row has, which is a typing error; one that some rows lack is
        optional."""
        if self._named is not None and (names := self._named.never_found()):
            raise DataError(
                f"prompt_template names {', '.join(names)}, which no row has: correct the name in "
                "problems.source.options, or leave it out"
            )

    def _read(self, split: str) -> list[_Located]:
        """All rows of a split's files. Names all rows that cannot be read, not only the first."""
        found, refused, first_bad_row = list[_Located](), Refused(), Row()
        for number, (where, row) in enumerate(self._read_rows(split)):
            try:
                found.append(self._located(where, (split, number), row))
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                text = f"no field {error}" if isinstance(error, KeyError) else str(error)
                first_bad_row = first_bad_row or row
                refused.add(where, text)
        if refused.count:
            rows = "" if refused.count == 1 else f"{refused.count} rows are no problems:\n  "
            first = "the row" if refused.count == 1 else "the first of them"
            raise DataError(f"{rows}{refused}; {first} has {described(first_bad_row)}")
        if not found:
            raise DataError(f"the {split} problems' file holds no rows: expected at least one")
        return found

    def _located(self, where: str, place: tuple[str, int], row: Row) -> _Located:
        row_id = self._row_id(row)
        problem = self._row_format(row)
        # JSON can hold half a surrogate pair, which is no character.
        "".join((problem.prompt, problem.reference)).encode()
        return _Located(problem, where, place, row_id, normalised(problem.prompt))

    def _row_id(self, row: Row) -> str | None:
        name = self._options.id_field
        if name is None:
            return None
        try:
            row_id = find(row, name)
        except MissingField:
            row_id = None
        if not isinstance(row_id, (str, int)) or isinstance(row_id, bool):
            raise ValueError(
                f"expected {name!r} (id_field) to be text or a whole number, found {row_id!r}"
            )
        return str(row_id)

    def _unique(
        self,
        split: str,
        found: list[_Located],
        by_id: dict[str, _Located],
        by_prompt: dict[str, _Located],
    ) -> list[_Located]:
        """The rows without repetitions within the split. Contradictions are looked for across all
        splits."""
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
    """The text without differences in case, blanks, and punctuation that is not part of a number or
    formula. Near-duplicates have the same normalised text."""
    return " ".join(_PUNCTUATION.sub(" ", unicodedata.normalize("NFC", text).casefold()).split())


def _split_by_hash(found: list[_Located], eval_fraction: float) -> dict[str, list[_Located]]:
    """Split by the row's id, or else by the normalised prompt, so that a problem's split does not
    depend on the rest of the file."""
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
    if other.problem.reference != one.problem.reference and not (
        # Where tests judge a program, the reference is one of many, and the first row's is taken.
        other.problem.has_tests and one.problem.has_tests
    ):
        raise DataError(
            f"{one.where}: the prompt is that of {other.where}, but the reference differs "
            f"({one.problem.reference[-60:]!r} and {other.problem.reference[-60:]!r}): correct or "
            "remove one of them"
        )
    if other is not one and prompt_of(other.problem) != prompt_of(one.problem):
        raise DataError(
            f"{one.where}: the prompt's text is that of {other.where}, but its messages are "
            "others: correct or remove one of them"
        )
    if one.row_id is None:
        return
    other = by_id.setdefault(one.row_id, one)
    if other.problem.prompt != one.problem.prompt:
        raise DataError(
            f"{one.where}: the id {one.row_id!r} is that of {other.where}, but the prompt differs: "
            "correct one of them, or name another id_field"
        )


def required_text(row: Row, field: str) -> str:
    """A field that must be text. Raises `KeyError` or `ValueError` where it is not."""
    value = row[field]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{field!r} must be text that is not blank, found {value!r:.80}")
    return value
