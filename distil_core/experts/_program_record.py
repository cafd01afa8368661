"""Answers of a program, kept so that a rerun asks nothing again and gets the same ones.

One SQLite file for a program with its options and its code, in `.distil/`: outside the stage's
outputs, which DVC deletes before each run. The answers that a table was made from are also written
beside it (`program_answers.jsonl`): they are versioned with it and can be restored elsewhere.
"""

import hashlib
import json
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any

from distil_core.config.models import Component
from distil_core.errors import DataError
from distil_core.experts._program_questions import Question
from distil_core.experts.programs import PROGRAMS
from distil_core.experts.programs.base import Text
from distil_core.files import private_folder, write_text
from distil_core.source_code import code_of

ANSWERS_FILE = "program_answers.jsonl"
_COMMIT_EVERY_S = 0.5


def program_digest(program: Component) -> str:
    """Stands for everything but the question that an answer depends on: the program, its options,
    and its code as it is now."""
    code = code_of(PROGRAMS.resolve(program.name), PROGRAMS.place.package).digest
    text = json.dumps([program.model_dump(mode="json"), code], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class AnswerRecord:
    """Texts by question, of one program. folder: None keeps none. Raises `DataError` where the file
    is damaged, another process uses it, or it cannot be written."""

    def __init__(self, folder: Path | None, program: str):
        self._path = folder / "programs" / f"{program}.sqlite" if folder else None
        self._connection: sqlite3.Connection | None = None
        self._committed = time.monotonic()

    def open(self) -> None:
        """Before the first answer is looked for."""
        if self._path is None or self._connection is not None:
            return
        private_folder(self._path.parent)
        try:
            self._connection = sqlite3.connect(self._path, timeout=5.0, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, texts TEXT) "
                "WITHOUT ROWID"
            )
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.DatabaseError as error:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()
            raise DataError(
                f"recorded answers in {self._path} cannot be used ({error}): wait for the process "
                "that is at it, or delete the file to ask the program again"
            ) from error

    def find(self, key: bytes) -> tuple[Text, ...] | None:
        """The recorded answer; None where there is none."""
        if self._connection is None:
            return None
        query = "SELECT texts FROM answers WHERE key = ?"
        row = self._connection.execute(query, (key,)).fetchone()
        return None if row is None else _texts(json.loads(row[0]))

    def add(self, key: bytes, texts: tuple[Text, ...]) -> None:
        """Record one answer; it is committed within half a second while others come."""
        if self._connection is None:
            return
        try:
            self._connection.execute(
                "INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, json.dumps(_values(texts)))
            )
            if time.monotonic() - self._committed >= _COMMIT_EVERY_S:
                self._connection.execute("COMMIT")
                self._connection.execute("BEGIN IMMEDIATE")
                self._committed = time.monotonic()
        except sqlite3.OperationalError as error:
            raise DataError(f"answers cannot be kept in {self._path} ({error})") from error

    def close(self) -> None:
        """Keep everything recorded so far. May be called more than once, and opened again."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            if connection.in_transaction:
                connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise DataError(f"answers cannot be kept in {self._path} ({error})") from error
        finally:
            connection.close()


def save_answers(
    folder: Path, program: Component, answered: Mapping[bytes, tuple[Question, tuple[Text, ...]]]
) -> None:
    """Write `program_answers.jsonl`: the program, then each answer by the question's key, in
    whatever order they came."""
    lines = [{"program": program.model_dump(mode="json"), "digest": program_digest(program)}]
    for key in sorted(answered):
        question, texts = answered[key]
        of_turn: dict[str, Any] = {} if question.turns is None else {"turns": list(question.turns)}
        lines.append(
            {
                "key": key.hex(),
                "problem_id": question.problem.problem_id,
                **of_turn,
                "response_so_far": question.response_so_far,
                "texts": _values(texts),
            }
        )
    text = "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines)
    write_text(folder / ANSWERS_FILE, text)


def restore_answers(folder: Path, record_dir: Path) -> int:
    """Copy the answers saved with a table back into the record, and return their number. The table
    can then be made again without asking. Raises `DataError` for a damaged file."""
    path = folder / ANSWERS_FILE
    head, *lines = path.read_text(encoding="utf-8").splitlines()
    try:
        record = AnswerRecord(record_dir, json.loads(head)["digest"])
        entries = [
            (bytes.fromhex(entry["key"]), _texts(entry["texts"]))
            for entry in map(json.loads, lines)
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({type(error).__name__}: {error})") from error
    record.open()
    try:
        for key, texts in entries:
            record.add(key, texts)
    finally:
        record.close()
    return len(entries)


def _values(texts: tuple[Text, ...]) -> list[Any]:
    return [astuple(text) for text in texts]


def _texts(values: list[Any]) -> tuple[Text, ...]:
    return tuple(Text(*value) for value in values)
