"""Finished verdicts on disk, with which an interrupted stage continues.

SQLite in write-ahead mode appends, and after a kill at any point it drops what was half-written. It
also holds the index, so that memory does not grow with the number of rows. The file is scratch: it
is outside DVC's outputs and is removed once the stage's own output is written.
"""

import json
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from distil_core.errors import DataError, VerifierError
from distil_core.problems.base import Problem
from distil_core.verifiers.base import FeedbackItem, Verification, Verifier
from distil_core.verifiers.pool.jobs import Outcome, VerificationJob

_COMMIT_EVERY_S = 0.2
_CACHE_KB = 2048


class Journal:
    """Outcomes by job key, of one stage with one digest of settings.

    Verdicts of other settings are dropped, and so are failures, which a new attempt may fix.
    num_resumed: verdicts found from an earlier run. Raises `DataError` where the file is damaged,
    another process uses it, or it cannot be written (the disk is full).
    """

    def __init__(self, path: Path, settings: str):
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._explained():
            self._connection = sqlite3.connect(path, timeout=1.0, isolation_level=None)
        try:
            self.num_resumed = self._open(settings)
        except sqlite3.DatabaseError as error:
            self._connection.close()
            if _is_unwritable(error):
                raise self._unwritable(error) from error
            raise DataError(
                f"the verdicts of an interrupted run in {path} cannot be used ({error}): wait for "
                "the process that is at it, or delete the file to verify all rows again"
            ) from error
        self._committed = time.monotonic()
        self._is_open = True

    def _open(self, settings: str) -> int:
        execute = self._connection.execute
        # Exclusive: two processes must not do the same work, and no shared memory file is needed.
        execute("PRAGMA locking_mode = EXCLUSIVE")
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = NORMAL")
        execute(f"PRAGMA cache_size = -{_CACHE_KB}")
        execute("BEGIN IMMEDIATE")
        execute("CREATE TABLE IF NOT EXISTS settings (digest TEXT PRIMARY KEY)")
        execute(
            "CREATE TABLE IF NOT EXISTS outcomes "
            "(key BLOB PRIMARY KEY, failed INTEGER, content TEXT) WITHOUT ROWID"
        )
        if execute("SELECT digest FROM settings").fetchall() != [(settings,)]:
            execute("DELETE FROM settings")
            execute("DELETE FROM outcomes")
            execute("INSERT INTO settings VALUES (?)", (settings,))
        execute("DELETE FROM outcomes WHERE failed")
        return int(execute("SELECT count(*) FROM outcomes").fetchone()[0])

    def __contains__(self, key: bytes) -> bool:
        query = "SELECT 1 FROM outcomes WHERE key = ?"
        return self._connection.execute(query, (key,)).fetchone() is not None

    @property
    def has_verdict(self) -> bool:
        """Whether any job has an outcome other than a failure."""
        query = "SELECT 1 FROM outcomes WHERE NOT failed LIMIT 1"
        return self._connection.execute(query).fetchone() is not None

    def find(self, key: bytes) -> Outcome | None:
        """The job's outcome; None while there is none."""
        query = "SELECT failed, content FROM outcomes WHERE key = ?"
        row = self._connection.execute(query, (key,)).fetchone()
        if row is None:
            return None
        failed, content = row[0], json.loads(row[1])
        return VerifierError(content) if failed else _verification(content)

    def record(self, key: bytes, outcome: Outcome) -> None:
        """Record an outcome; it is committed if the last commit is 0.2 s ago."""
        failed = isinstance(outcome, VerifierError)
        content = str(outcome) if isinstance(outcome, VerifierError) else _content(outcome)
        with self._explained():
            self._connection.execute(
                "INSERT OR REPLACE INTO outcomes VALUES (?, ?, ?)",
                (key, failed, json.dumps(content)),
            )
        if time.monotonic() - self._committed >= _COMMIT_EVERY_S:
            self.commit()

    def commit(self) -> None:
        """Make everything recorded survive a kill of this process."""
        with self._explained():
            self._connection.execute("COMMIT")
            self._connection.execute("BEGIN IMMEDIATE")
        self._committed = time.monotonic()

    def remove(self) -> None:
        """Delete the file, once the stage's output is written."""
        self.close()
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self._path}{suffix}").unlink(missing_ok=True)

    def close(self) -> None:
        """Keep everything recorded so far for the next run. May be called more than once."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            # A full disk may have ended the transaction already.
            if self._connection.in_transaction:
                with self._explained():
                    self._connection.execute("COMMIT")
        finally:
            self._connection.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise `DataError` for what SQLite cannot write in the block."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: sqlite3.Error) -> DataError:
        free_mb = shutil.disk_usage(self._path.parent).free / 1e6
        return DataError(
            f"verdicts cannot be kept in the scratch file {self._path} ({error}; {free_mb:.1f} MB "
            "free): free some space, or make the folder writable, and run again; verdicts kept "
            "before are not lost"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class JournalVerifier(Verifier):
    """A verifier that only looks up the outcomes of `verify_all`."""

    def __init__(self, journal: Journal):
        self._journal = journal

    def verify(self, problem: Problem, response: str) -> Verification:
        """The recorded verdict. Raises the recorded `VerifierError`, and one for a job that was not
        verified."""
        outcome = self._journal.find(VerificationJob(problem, response).key)
        if isinstance(outcome, VerifierError):
            raise outcome
        if outcome is None:
            raise VerifierError(
                f"a response to problem {problem.problem_id} was not verified: {response[:80]!r}"
            )
        return outcome


def _is_unwritable(error: sqlite3.Error) -> bool:
    codes = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY)
    # The lowest byte is the primary code; the others add detail.
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in codes


def _content(outcome: Verification) -> dict[str, Any]:
    # Same as `dataclasses.asdict`, which takes as long as a simple verifier's verdict.
    return vars(outcome) | {"feedback": [vars(item) for item in outcome.feedback]}


def _verification(content: dict[str, Any]) -> Verification:
    feedback = tuple(FeedbackItem(**item) for item in content.pop("feedback"))
    return Verification(**content, feedback=feedback)
