"""Canaries: what `flows/_internals.py` rests on is so in the installed Prefect. 40 s.

One process in a workspace of its own, with the server that `make run` has, tries each.
"""

import json
import subprocess
import sys
from typing import Any

import front_door_scratch as scratch
import pytest

from distil_flows import _internals

_PROGRAM = """
import json, os, sqlite3, sys, threading, urllib.request
from contextlib import closing
from pathlib import Path
from distil_core.workspace import Workspace
from distil_flows import _internals
from distil_flows.api_server import prefect_api

found = {}
with prefect_api(Workspace(Path.cwd())) as api:
    api.wait_until_ready()
    from prefect import flow, get_run_logger, task
    from prefect.client.orchestration import get_client
    from prefect.events.worker import EventsWorker
    from prefect.settings import get_current_settings
    from prefect.states import Failed

    found["url_in_force"] = get_current_settings().api.url == api.url
    os.environ["PREFECT_UI_URL"] = "http://127.0.0.1:1/pages"
    found["url_of_before"] = get_current_settings().ui_url
    _internals.reload_settings()
    found["url_of_after"] = get_current_settings().ui_url

    with closing(sqlite3.connect(".prefect/prefect.db", timeout=30)) as database:
        _internals.write_variable(database, "proof", "secret")
        with get_client(sync_client=True) as client:
            read = client.request("GET", "/variables/name/proof")
        found["variable"] = read.json()["value"]
        _internals.delete_variable(database, "proof")
        with get_client(sync_client=True) as client:
            try:
                found["deleted"] = client.request("GET", "/variables/name/proof").status_code
            except Exception as error:
                found["deleted"] = error.response.status_code

    def is_retried(_, run, state):
        found["error"] = repr(_internals.error_of(state))
        return False

    @task(retries=1, retry_condition_fn=is_retried, persist_result=False)
    def work():
        get_run_logger().info("a line of the log")
        return Failed(data=ValueError("why"), message="why")

    seen = {}

    @flow(persist_result=False)
    def trial(key):
        seen[key] = sum(thread._target is not None and "run" in str(thread._target)
                        and thread.daemon for thread in threading.enumerate())
        if key == "without":
            work(return_state=True)
            from prefect.runtime import flow_run
            found["id"], found["page"] = flow_run.id, _internals.flow_run_page(flow_run.id)

    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    _internals.limit_event_retries("https://api.prefect.cloud/api")
    found["clouds"] = EventsWorker._client_override
    _internals.limit_event_retries(api.url)
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: 30}):
        trial("with")
        with _internals.disable_heartbeats():
            trial("without")
    found["heartbeats"] = seen["with"] - seen["without"]
    found["attempts"] = EventsWorker.instance()._client._reconnection_attempts
    found["logger"] = EventsWorker.instance()._logger.name

    _internals.flush_queues(30)
    with get_client(sync_client=True) as client:
        states = [run.state.name for run in client.read_task_runs()]
        found["states"] = states
        found["logs"] = [log.message for log in client.read_logs()
                         if log.message == "a line of the log"]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("workspace")
    (folder / "pyproject.toml").write_text('[tool.prefect]\nhome = ".prefect"\n')
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        cwd=folder,
        env=scratch.environment(PYTHONPATH=str(scratch.PROJECT)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_server_answers_and_settings_are_read_when_asked(found: Any) -> None:
    assert found["url_in_force"]
    assert found["url_of_before"] != "http://127.0.0.1:1/pages"
    assert found["url_of_after"] == "http://127.0.0.1:1/pages"


def test_a_row_of_the_table_is_what_the_server_answers(found: Any) -> None:
    assert (found["variable"], found["deleted"]) == ("secret", 404)


def test_a_flow_run_has_a_page(found: Any) -> None:
    assert found["page"] == f"http://127.0.0.1:1/pages/runs/flow-run/{found['id']}"


def test_the_error_of_a_state_that_a_task_returned(found: Any) -> None:
    assert found["error"] == "ValueError('why')"


def test_no_thread_beats_beside_a_flow(found: Any) -> None:
    assert found["heartbeats"] == 1


def test_events_are_given_up_after_one_more_try(found: Any) -> None:
    assert (found["clouds"], found["attempts"]) == (None, 1)


def test_what_is_queued_arrives(found: Any) -> None:
    assert (found["states"], found["logs"]) == (["Failed"], ["a line of the log"])


def test_names_of_loggers(found: Any) -> None:
    from prefect._internal.concurrency import logger
    from prefect.logging.handlers import APILogWorker

    assert logger.name in _internals.INTERNAL_LOGGERS
    assert (found["logger"], APILogWorker.__name__) == _internals.QUEUE_LOGGERS
