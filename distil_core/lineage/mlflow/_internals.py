"""All that is used of MLflow beyond its documented API, each with the behaviour it rests on.

`tests/lineage/mlflow/test_mlflow_internals.py` has a canary for each; what MLflow's pages make of
the tags is looked at in a browser by `test_mlflow_browser.py`. pyproject.toml bounds MLflow to the
minor version against which these were written.
"""

import json
import os
import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow.client import MlflowClient

NOTE_TAG = "mlflow.note.content"
"""Markdown that the page of a run, an experiment or a logged model shows."""

PARENT_RUN_TAG = "mlflow.parentRunId"
"""The run that the table of runs shows a run below."""

RUN_NAME_TAG = "mlflow.runName"
"""By which the table of runs can be put in order."""

USER_TAG = "mlflow.user"
SOURCE_TAG = "mlflow.source.name"
COMMIT_TAG = "mlflow.source.git.commit"
"""Who, what command and which commit made a run, in its page's header and the table's columns."""

CONTEXT_TAG = "mlflow.data.context"
"""Of a run's input: what it was used for, shown beside it."""

EXTERNAL_MODEL_TAG = "mlflow.model.isExternal"
"""Of a logged model, and in its `MLmodel`: the weights are elsewhere."""

_VIEW_TAG = "mlflow.sharedViewState."
_VERSIONS_TAG = "mlflow.modelVersions"


def shared_view_tag(name: str) -> str:
    """Of an experiment: a view of its runs' table as its "share" stores one, to be opened by
    `viewStateShareKey=name` in the address."""
    return f"{_VIEW_TAG}{name}"


def link_to_version(client: "MlflowClient", model_id: str, name: str, version: int) -> None:
    """Have a logged model's page link to its registered version, as `mlflow.register_model` does;
    creating the version by the client does not."""
    link = [{"name": name, "version": str(version)}]
    client.set_logged_model_tags(model_id, {_VERSIONS_TAG: json.dumps(link)})


def import_with_database() -> None:
    """Import MLflow with its database layer (3 s), which opening a store does otherwise.

    A missing git executable would be complained about on screen at import, and every run that ends
    on a server announced there. A request to a server that is lost meanwhile would be tried again
    for four minutes.
    """
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    import mlflow.store.tracking.sqlalchemy_store
    import mlflow.tracking  # noqa: F401


def finished_tags(database: Path, name: str) -> set[str]:
    """The values of a tag of all runs in a SQLite store that are finished and not deleted, read
    without MLflow, whose import takes seconds. Rests on its tables `runs` and `tags`; raises
    `sqlite3.Error` where there are none."""
    query = (
        "SELECT DISTINCT tags.value FROM tags JOIN runs USING (run_uuid) WHERE tags.key = ? "
        "AND runs.status = 'FINISHED' AND runs.lifecycle_stage = 'active'"
    )
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as opened:
        return {value for (value,) in opened.execute(query, (name,))}


def unset_tracking_uri() -> None:
    """Undo `set_tracking_uri`. None does, though the signature does not say so."""
    from mlflow.tracking import set_tracking_uri

    set_tracking_uri(None)  # type: ignore[arg-type]


def max_param_chars() -> int:
    """The longest value of a parameter that a store takes."""
    from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH

    return MAX_PARAM_VAL_LENGTH


def max_tag_chars() -> int:
    """The longest value of a run's tag that a store takes."""
    from mlflow.utils.validation import MAX_TAG_VAL_LENGTH

    return MAX_TAG_VAL_LENGTH


def is_there_already(error: Exception) -> bool:
    """Whether MLflow refused to make something because there is one of that name."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

    return isinstance(error, MlflowException) and error.error_code == ErrorCode.Name(
        RESOURCE_ALREADY_EXISTS
    )


def is_lost_race(error: Exception) -> bool:
    """Whether another process added the same row between MLflow's looking and its adding: it lets
    the database's own error through, as text."""
    return "IntegrityError" in str(error)


@cache
def schema_versions() -> list[str]:
    """Versions of the database's schema that this MLflow knows, the present one first. Its scripts
    are read once: that takes longer than all else in opening a store."""
    import mlflow.store.db_migrations
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(Path(mlflow.store.db_migrations.__file__).parent))
    return [script.revision for script in scripts.walk_revisions()]


def schema_versions_in(connection: sqlite3.Connection) -> list[str] | None:
    """Those that a database says it has; none where it has tables of something else, None where it
    has no tables yet."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if not tables:
        return None
    if "alembic_version" not in tables:
        return []
    return [version for (version,) in connection.execute("SELECT * FROM alembic_version")]


def pages_application() -> Any:
    """The ASGI application of MLflow's own server: pages and API, for one more layer around it."""
    from mlflow.server.fastapi_app import app

    return app
