"""Canaries: what `distil_core/lineage/mlflow/_internals.py` rests on is so in the installed MLflow.

About 15 s, most of it importing MLflow.
"""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from distil_core.lineage.mlflow import _internals

PROJECT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mlflow") / "mlflow.db"


@pytest.fixture(scope="module")
def client(database: Path) -> Any:
    from mlflow.client import MlflowClient

    uri = f"sqlite:///{database}"
    return MlflowClient(uri, uri)


@pytest.fixture(scope="module")
def run(client: Any, database: Path) -> Any:
    artifacts = str(database.with_name("mlruns"))
    return client.create_run(client.create_experiment("campaign", artifact_location=artifacts))


def test_names_of_tags() -> None:
    from mlflow.utils import mlflow_tags

    assert {
        _internals.NOTE_TAG: mlflow_tags.MLFLOW_RUN_NOTE,
        _internals.PARENT_RUN_TAG: mlflow_tags.MLFLOW_PARENT_RUN_ID,
        _internals.RUN_NAME_TAG: mlflow_tags.MLFLOW_RUN_NAME,
        _internals.USER_TAG: mlflow_tags.MLFLOW_USER,
        _internals.SOURCE_TAG: mlflow_tags.MLFLOW_SOURCE_NAME,
        _internals.COMMIT_TAG: mlflow_tags.MLFLOW_GIT_COMMIT,
        _internals.CONTEXT_TAG: mlflow_tags.MLFLOW_DATASET_CONTEXT,
        _internals.EXTERNAL_MODEL_TAG: mlflow_tags.MLFLOW_MODEL_IS_EXTERNAL,
    }.items() <= {name: name for name in vars(mlflow_tags).values() if _is_tag(name)}.items()


def _is_tag(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("mlflow.")


def test_pages_know_views_by_this_tag_and_this_part_of_an_address() -> None:
    import mlflow

    tag = _internals.shared_view_tag("")
    pages = Path(mlflow.__file__).parent / "server/js/build/static/js"
    scripts = [file.read_text(encoding="utf-8") for file in pages.glob("*.js")]
    assert any(tag in script and "viewStateShareKey" in script for script in scripts)


def test_a_model_is_linked_to_its_version_as_mlflow_links_it(client: Any, run: Any) -> None:
    """By its fluent API, which looks models up under the process's own tracking URI."""
    import mlflow

    models = [
        client.create_logged_model(run.info.experiment_id, name=name, source_run_id=run.info.run_id)
        for name in ("by-mlflow", "by-us")
    ]
    mlflow.set_tracking_uri(client.tracking_uri)
    try:
        theirs, ours = (model.model_id for model in models)
        version = mlflow.register_model(f"models:/{theirs}", "registered")
        _internals.link_to_version(client, ours, "registered", int(version.version))
    finally:
        _internals.unset_tracking_uri()
    tags = [client.get_logged_model(model_id).tags for model_id in (theirs, ours)]
    assert tags[0].keys() == tags[1].keys()
    # Stores differ in whether a version is text.
    links = [[str(link) for link in json.loads(*tag.values())[0].values()] for tag in tags]
    assert links == [["registered", "1"]] * 2


def test_the_tracking_uri_is_unset() -> None:
    from mlflow.tracking import get_tracking_uri, is_tracking_uri_set, set_tracking_uri

    before = get_tracking_uri()
    set_tracking_uri("sqlite:///elsewhere.db")
    assert is_tracking_uri_set()
    _internals.unset_tracking_uri()
    assert not is_tracking_uri_set()
    assert get_tracking_uri() == before


def test_the_database_layer_is_imported_without_a_word() -> None:
    program = (
        "import sys\n"
        "from distil_core.lineage.mlflow import _internals\n"
        "_internals.import_with_database()\n"
        "from mlflow.environment_variables import MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT as quiet\n"
        "assert quiet.get() is True\n"
        "before = len(sys.modules)\n"
        "import mlflow.store.tracking.sqlalchemy_store, mlflow.client\n"
        "assert len(sys.modules) == before\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        # No git on the path.
        env=os.environ | {"PATH": "/nowhere", "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_longest_values_are_taken_and_longer_ones_cut(client: Any, run: Any) -> None:
    run_id = run.info.run_id
    param, tag = "p" * _internals.max_param_chars(), "t" * _internals.max_tag_chars()
    client.log_param(run_id, "longest", param)
    client.set_tag(run_id, "longest", tag)
    data = client.get_run(run_id).data
    assert (data.params["longest"], data.tags["longest"]) == (param, tag)
    # A longer one is cut, with a warning in the log alone.
    client.log_param(run_id, "longer", f"{param}p")
    client.set_tag(run_id, "longer", f"{tag}t")
    data = client.get_run(run_id).data
    assert (data.params["longer"], data.tags["longer"]) == (param, tag)


def test_what_is_there_already_is_told_from_other_refusals(client: Any, run: Any) -> None:
    from mlflow.exceptions import MlflowException

    client.create_registered_model("once")
    for again in (
        lambda: client.create_registered_model("once"),
        lambda: client.create_experiment("campaign"),
    ):
        with pytest.raises(MlflowException) as raised:
            again()
        assert _internals.is_there_already(raised.value)
    with pytest.raises(MlflowException) as raised:
        client.get_run("none")
    assert not _internals.is_there_already(raised.value)
    assert not _internals.is_there_already(ValueError())


def test_a_row_that_another_process_added_meanwhile(client: Any, run: Any) -> None:
    """MLflow looks for the experiment, then adds it; another one commits the same in between."""
    from mlflow.exceptions import MlflowException
    from mlflow.store.tracking.dbmodels.models import SqlExperiment
    from mlflow.tracking._tracking_service.utils import _get_store

    store = _get_store(client.tracking_uri)
    with (
        pytest.raises(MlflowException) as raised,
        store.ManagedSessionMaker(read_only=False) as session,
    ):
        session.add(SqlExperiment(name="campaign", lifecycle_stage="active"))
    assert _internals.is_lost_race(raised.value)
    with pytest.raises(MlflowException) as raised:
        client.get_run("none")
    assert not _internals.is_lost_race(raised.value)


def test_versions_of_the_schema(client: Any, run: Any, database: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        assert _internals.schema_versions_in(connection) == _internals.schema_versions()[:1]
    assert len(set(_internals.schema_versions())) > 10
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        assert _internals.schema_versions_in(connection) is None
        connection.execute("CREATE TABLE other (a)")
        assert _internals.schema_versions_in(connection) == []


def test_tags_of_finished_runs_are_read_without_mlflow(
    client: Any, run: Any, database: Path
) -> None:
    """Those of runs that still go on, failed, or were deleted are left out."""
    experiment = run.info.experiment_id
    for status in ("FINISHED", "FAILED", "RUNNING", "deleted"):
        made = client.create_run(experiment, tags={"colour": status, "other": "x"})
        if status == "deleted":
            client.set_terminated(made.info.run_id, "FINISHED")
            client.delete_run(made.info.run_id)
        elif status != "RUNNING":
            client.set_terminated(made.info.run_id, status)
    assert _internals.finished_tags(database, "colour") == {"FINISHED"}
    with pytest.raises(sqlite3.Error):
        _internals.finished_tags(database.with_name("none.db"), "colour")


def test_the_application_of_the_pages_takes_one_more_layer() -> None:
    """What it sends passes the layer, so that the first page can lead to the campaign."""
    import asyncio

    import httpx

    seen = []

    class Layer:
        def __init__(self, app: Any):
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            seen.append(scope["path"])
            await self.app(scope, receive, send)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=Layer(_internals.pages_application()))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as asking:
            return await asking.get("/health")

    assert asyncio.run(ask()).text == "OK"
    assert seen == ["/health"]
