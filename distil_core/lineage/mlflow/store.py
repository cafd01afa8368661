"""Open MLflow's store for a campaign: its location, one writer at a time, plain errors."""

import fcntl
import logging
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from distil_core.errors import LineageError
from distil_core.files import private_file, private_folder
from distil_core.lineage.mlflow import _internals
from distil_core.lineage.mlflow.address import (
    database_uri,
    own_uri,
    require_answering,
    shown,
)
from distil_core.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.client import MlflowClient

WRITER_WAIT_S = 60.0
"""How long to wait for another process that records into the same campaign."""

DATABASE_WAIT_S = 20.0
"""How long to wait for a locked database before saying so; MLflow's own wait, too."""

_opened: dict[Path, int] = {}


@contextmanager
def open_store(workspace: Workspace) -> Iterator["MlflowClient"]:
    """A client of the campaign's store: `mlflow.db` in the workspace, created when it is missing,
    or what the user set as MLflow's tracking URI.

    Meanwhile other processes that record into this workspace wait, and MLflow's output is silenced.
    Failures are raised as `LineageError`, with what to do.
    """
    require_answering(workspace)
    with _one_writer(workspace):
        _internals.import_with_database()
        import mlflow.tracking

        with _quiet(), _tracking_uri(workspace) as uri, _plain_errors(uri):
            database = _sqlite_file(uri)
            if database:
                _require_same(database)
            if database and database.exists():
                _require_usable(database, uri)
            elif uri == own_uri(workspace):
                _create(workspace)
            if uri == own_uri(workspace):
                private_file(workspace.mlflow_database)
                private_folder(workspace.root / "mlruns")
            client = mlflow.tracking.MlflowClient()
            if database:
                _opened[database] = database.stat().st_ino
            yield client


@contextmanager
def read_store(workspace: Workspace) -> Iterator["MlflowClient | None"]:
    """A client of the campaign's store for reading; None where the workspace has no database yet.

    It waits for no recorder, and changes nothing, so that it works where nothing can be written.
    """
    require_answering(workspace)
    _internals.import_with_database()
    import mlflow.tracking

    with _quiet(), _tracking_uri(workspace) as uri, _plain_errors(uri):
        database = _sqlite_file(uri)
        if database:
            if not database.exists():
                yield None
                return
            _require_known_schema(database, uri)
        yield mlflow.tracking.MlflowClient()


def import_mlflow() -> None:
    """Import MLflow now, which takes seconds, instead of when the store is opened."""
    _internals.import_with_database()


@contextmanager
def allow_existing() -> Iterator[None]:
    """Ignore MLflow's refusal, in the block, to create something that another recorder has just
    created."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if not _internals.is_there_already(error):
            raise


_ATTEMPTS = 4


def retry_lost_race(write: Callable[[], None]) -> None:
    """Have MLflow write something that it looks up first and then adds. Where another recorder
    added it in between, the database refuses, and the next attempt finds it."""
    from mlflow.exceptions import MlflowException

    for attempt in range(1, _ATTEMPTS + 1):
        try:
            write()
        except MlflowException as error:
            if attempt == _ATTEMPTS or not _internals.is_lost_race(error):
                raise
        else:
            return


def artifact_root(workspace: Workspace, uri: str) -> str | None:
    """Where experiments in the workspace's own database keep their few files; None for a user's
    store, which has its own place."""
    if uri != own_uri(workspace):
        return None
    root = workspace.root.resolve() / "mlruns"
    # MLflow decodes a plain path as if it were an address.
    return root.as_uri() if "%" in str(root) else str(root)


@contextmanager
def _tracking_uri(workspace: Workspace) -> Iterator[str]:
    """Set the store's address as MLflow's global setting, where its model registry looks for it."""
    from mlflow.tracking import get_tracking_uri, is_tracking_uri_set, set_tracking_uri

    if is_tracking_uri_set():
        yield get_tracking_uri()
        return
    uri = own_uri(workspace)
    set_tracking_uri(uri)
    try:
        yield uri
    finally:
        _internals.unset_tracking_uri()


@contextmanager
def _one_writer(workspace: Workspace) -> Iterator[None]:
    """Hold the lock on the campaign's record. The lock dies with its process, so its holder knows
    that a run found RUNNING was left by a process that is gone."""
    path = workspace.scratch_dir / "mlflow.lock"
    private_folder(workspace.scratch_dir)
    with path.open("a+", encoding="utf-8") as file:
        deadline = time.monotonic() + WRITER_WAIT_S
        while not _locked(file):
            if time.monotonic() > deadline:
                file.seek(0)
                raise LineageError(
                    f"process {file.read().strip() or '(unknown)'} has been recording into "
                    f"{workspace.mlflow_database.name} for more than {WRITER_WAIT_S:.0f} s; wait "
                    "until it has finished, or end it, and record again"
                )
            time.sleep(0.05)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the traceback that MLflow logs before it raises; the error itself is enough."""
    logger = logging.getLogger("mlflow")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _plain_errors(uri: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error) as error:
        raise LineageError(_explain(str(error), shown(uri))) from error


def _explain(message: str, uri: str) -> str:
    """What a failure of the store means for the reader."""
    if "database is locked" in message:
        return (
            f"the MLflow database {uri} stayed locked by another writer for more than "
            f"{DATABASE_WAIT_S:.0f} s; close the program that writes to it (an `mlflow ui` only "
            "reads) and record again, nothing was lost"
        )
    if "readonly database" in message or "unable to open database" in message:
        return f"the MLflow database {uri} cannot be written here: check the folder's permissions"
    if "database or disk is full" in message or "No space left" in message:
        return f"no space left for the MLflow database {uri}: free some and record again"
    if "not a database" in message or "malformed" in message:
        return (
            f"{uri} is damaged, or no SQLite database at all: move the file away and record "
            "again; everything in it is read anew from dvc.lock and the files"
        )
    return f"MLflow ({uri}) could not record: {message.splitlines()[0]}"


def _create(workspace: Workspace) -> None:
    """Create the database completely before it gets its name: killed in the middle of its
    migrations, MLflow leaves tables that no MLflow can use."""
    from mlflow.tracking import MlflowClient

    with tempfile.TemporaryDirectory(dir=workspace.scratch_dir) as folder:
        draft = Path(folder).resolve() / workspace.mlflow_database.name
        # Private, as it holds text that models and experts wrote.
        private_file(draft)
        MlflowClient(database_uri(draft)).search_experiments(max_results=1)
        os.replace(draft, workspace.mlflow_database)


def _require_same(database: Path) -> None:
    """Raise when the file is not the one that this process opened before: MLflow keeps that one
    open, and would go on writing to it even if it was deleted."""
    if database not in _opened:
        return
    if not database.exists() or database.stat().st_ino != _opened[database]:
        raise LineageError(
            f"{database} was removed or replaced while this process had it open: restart the "
            "process (the worker or `serve`), then record again"
        )


def _sqlite_file(uri: str) -> Path | None:
    from sqlalchemy.engine import make_url

    if not uri.startswith(("sqlite:", "sqlite+")):
        return None
    name = make_url(uri).database
    return Path(name) if name and name != ":memory:" else None


def _require_usable(database: Path, uri: str) -> None:
    """Raise unless the file can be written and has this MLflow's tables."""
    with closing(sqlite3.connect(database, timeout=DATABASE_WAIT_S)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.rollback()
    _require_known_schema(database, uri)


def _require_known_schema(database: Path, uri: str) -> None:
    """Raise unless the file has this MLflow's tables.

    MLflow would migrate an older database in place, without a copy; that is left to the user.
    """
    with closing(sqlite3.connect(database, timeout=DATABASE_WAIT_S)) as connection:
        versions = _internals.schema_versions_in(connection)
    known = _internals.schema_versions()
    if versions is None or versions == known[:1]:
        return
    if not versions:
        what = "has tables of something else than MLflow: move the file away"
    elif versions[0] in known:
        what = (
            f"was made by an older MLflow (schema {versions[0]}, this one needs {known[0]}): copy "
            f"the file, then `mlflow db upgrade {uri}`; or move it away"
        )
    else:
        what = (
            f"was made by a newer MLflow (unknown schema {versions[0]}): use that MLflow, or "
            "move the file away"
        )
    raise LineageError(f"{database} {what}. A new one is filled from dvc.lock and the files.")
