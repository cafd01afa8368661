"""The checks of a table, kept in a file beside it: which tables have some, and where they are read.

They are measured once, when a stage has written the table or where the file lacks (a table that
came from a cache, a remote or an earlier version), and tell by the table's digest of which they
are. So they are no output of a stage: the same table has the same checks wherever it lies.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from distil_core import pipeline
from distil_core.checks import measures
from distil_core.errors import DataError
from distil_core.files import write_text
from distil_core.pipeline import Artifact, Stage
from distil_core.tables.store import stated_digest
from distil_core.workspace import Workspace

_VERSION = 1
"""Raised when what a check measures changes: all are measured again then."""


@dataclass(frozen=True)
class CheckedTable:
    """A kind of table. name: as pages show it. measure: from its path to values by check. digest:
    of the table at a path, which tells it from another one."""

    name: str
    artifact: Artifact
    measure: Callable[[Path], dict[str, float]]
    digest: Callable[[Path], str] = stated_digest

    def path(self, workspace: Workspace, iteration: int) -> Path:
        """The iteration's table."""
        return self.artifact.locate(workspace, iteration)


def _digest_of_bytes(path: Path) -> str:
    try:
        return hashlib.blake2b(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}): run the stage that writes it") from error


ROLLOUTS = CheckedTable("rollouts", pipeline.ROLLOUTS, measures.rollouts)
CONSULTATIONS = CheckedTable("consultations", pipeline.CONSULTATIONS, measures.consultations)
FEEDBACK = CheckedTable("feedback", pipeline.FEEDBACK, measures.feedback)
TRAINING = CheckedTable(
    "train_curve", pipeline.TRAIN_CURVE, measures.training, digest=_digest_of_bytes
)
EVALUATION = CheckedTable("evaluation", pipeline.EVALUATION, measures.evaluation)
CHECKED_TABLES = (ROLLOUTS, CONSULTATIONS, FEEDBACK, TRAINING, EVALUATION)


def written_by(stage: Stage) -> list[CheckedTable]:
    """The tables with checks that a stage writes."""
    return [table for table in CHECKED_TABLES if table.artifact in stage.writes]


def table_checks(workspace: Workspace, table: CheckedTable, iteration: int) -> dict[str, float]:
    """The values by check: kept ones, or else measured now and kept. Raises `DataError` where the
    table is missing or damaged."""
    path = table.path(workspace, iteration)
    found = _read(workspace.checks_file(path), table.digest(path))
    return measured_now(workspace, table, iteration) if found is None else found


def kept_checks(workspace: Workspace, iteration: int) -> dict[str, dict[str, float]]:
    """By table what is kept, of tables that are here and have not changed since."""
    found = {}
    for table in CHECKED_TABLES:
        path = table.path(workspace, iteration)
        file = workspace.checks_file(path)
        if file.exists() and path.exists():
            checks = _read(file, table.digest(path))
            if checks is not None:
                found[table.name] = checks
    return found


def all_checks(workspace: Workspace, iteration: int) -> dict[str, dict[str, float]]:
    """By table the values of each table of the iteration that is here."""
    return {
        table.name: table_checks(workspace, table, iteration)
        for table in CHECKED_TABLES
        if table.path(workspace, iteration).exists()
    }


def measured_now(workspace: Workspace, table: CheckedTable, iteration: int) -> dict[str, float]:
    """Measure a table's checks, whatever is kept, and keep them."""
    path = table.path(workspace, iteration)
    checks = table.measure(path)
    content = {
        "version": _VERSION,
        "table": workspace.relative(path),
        "digest": table.digest(path),
        "checks": checks,
    }
    write_text(workspace.checks_file(path), json.dumps(content, indent=1) + "\n")
    return checks


def _read(file: Path, digest: str) -> dict[str, float] | None:
    """What the file keeps of the table with this digest; None where it is of another one, of
    another version, or no such file: it is made again at no loss."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["version"] != _VERSION or content["digest"] != digest:
            return None
        return {str(name): float(value) for name, value in content["checks"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
