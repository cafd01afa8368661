"""All that is used of Prefect beyond its documented API, each call with the behaviour it rests on.

`tests/flows/test_prefect_internals.py` has a canary for each. pyproject.toml bounds Prefect to the
minor version against which they were written. Prefect is imported when a function is called.
"""

import json
import sqlite3
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any, cast
from uuid import uuid4

INTERNAL_LOGGERS = ("prefect._internal", "prefect._internal.concurrency", "prefect")
"""What its own services and threads log with, and whose handlers print it: whole events and stack
traces where one could not be sent."""

QUEUE_LOGGERS = ("EventsWorker", "APILogWorker")
"""What its queues log with: at the end, how many events wait."""


def server_app() -> Any:
    """The server's ASGI application. `final` is what `prefect server start` passes: the pages are
    served, and the settings no longer change."""
    from prefect.server.api.server import create_app

    return create_app(final=True)


def reload_settings() -> None:
    """Apply changes of `os.environ` to this process, as Prefect reads its settings only once."""
    from prefect.context import refresh_global_settings_context

    refresh_global_settings_context()


def flush_queues(timeout_s: float) -> None:
    """Wait until Prefect has sent this process's queued states of task runs and lines of its
    log."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (EventsWorker, APILogWorker):
        worker.drain_all(timeout=timeout_s)


def limit_event_retries(url: str) -> None:
    """Reduce the ten tries that Prefect makes to send each waiting event, which would hold up a run
    for minutes when its server is gone. Prefect Cloud has its own client, which is left alone."""
    from prefect.events.clients import PrefectEventsClient
    from prefect.events.worker import EventsWorker
    from prefect.settings import PREFECT_CLOUD_API_URL

    if not url.startswith(PREFECT_CLOUD_API_URL.value()):
        EventsWorker.set_client_override(PrefectEventsClient, reconnection_attempts=1)


def disable_heartbeats() -> AbstractContextManager[Any]:
    """Turn off the thread beside each flow run that reports it alive, which takes a second to
    end."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    return cast(
        "AbstractContextManager[Any]",
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
    )


def flow_run_page(flow_run_id: Any) -> str | None:
    """The run's page, at the address of the server's pages (`PREFECT_UI_URL`)."""
    from prefect.utilities.urls import url_for

    return url_for("flow-run", flow_run_id)


def error_of(state: Any) -> Any:
    """The failure in a state. Prefect wraps a state that a task returned in another one."""
    from prefect.client.schemas.objects import State

    return state.data.data if isinstance(state.data, State) else state.data


def write_variable(connection: sqlite3.Connection, name: str, value: str) -> None:
    """Write a row to the table from which the server answers for variables."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    with connection:
        connection.execute(
            "INSERT INTO variable (id, created, updated, name, value, tags) "
            "VALUES (?, ?, ?, ?, ?, '[]')",
            (str(uuid4()), now, now, name, json.dumps(value)),
        )


def delete_variable(connection: sqlite3.Connection, name: str) -> None:
    """Delete that row, if there is one."""
    with connection:
        connection.execute("DELETE FROM variable WHERE name = ?", (name,))
