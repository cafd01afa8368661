"""Which Prefect API a run reports to, and that a server of our own never outlives it. 8 s."""

import http.server
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import front_door_scratch as scratch
import pytest

from flows.api_server import PrefectApiError, answering, require_answering


@pytest.fixture
def other_server() -> Iterator[str]:
    """A web server that is not Prefect's."""
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/api"
    server.shutdown()
    server.server_close()


def test_tells_what_answers(other_server: str) -> None:
    assert answering(other_server) == "other"
    assert answering(f"http://127.0.0.1:{scratch.free_port()}/api") == "nothing"
    assert answering("no address at all") == "nothing"


def test_says_how_to_use_another_port(other_server: str) -> None:
    with pytest.raises(PrefectApiError, match="something else than a Prefect server") as caught:
        require_answering(other_server)
    assert "prefect server start --port 4300" in str(caught.value)


def test_own_server_dies_with_a_killed_parent(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.prefect]\nhome = ".prefect"\n')
    program = (
        "import time\n"
        "from pathlib import Path\n"
        "from distil_core.workspace import Workspace\n"
        "from flows.api_server import prefect_api\n"
        "with prefect_api(Workspace(Path.cwd())) as api:\n"
        "    api.wait_until_ready()\n"
        "    assert api.own\n"
        "    print(api.url, flush=True)\n"
        "    time.sleep(600)\n"
    )
    variables = scratch.environment(PYTHONPATH=str(scratch.PROJECT))
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=variables,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    url = process.stdout.readline().strip()
    assert answering(url) == "prefect"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    scratch.wait_for("end of the server", lambda: answering(url) == "nothing", timeout_s=20)
    assert (tmp_path / ".prefect" / "prefect.db").exists()


def test_a_server_that_cannot_start_is_explained(tmp_path: Path) -> None:
    # A folder where the database should be.
    (tmp_path / ".prefect" / "prefect.db").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text('[tool.prefect]\nhome = ".prefect"\n')
    program = (
        "from pathlib import Path\n"
        "from distil_core.workspace import Workspace\n"
        "from flows.api_server import PrefectApiError, prefect_api\n"
        "try:\n"
        "    with prefect_api(Workspace(Path.cwd())) as api:\n"
        "        api.wait_until_ready()\n"
        "except PrefectApiError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=scratch.environment(PYTHONPATH=str(scratch.PROJECT)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "the Prefect server for this run ended at once" in done.stdout
    assert "prefect-server.log" in done.stdout


def test_a_locked_database_is_named(tmp_path: Path) -> None:
    """The log is of a real server that met a lock."""
    database = tmp_path / ".prefect" / "prefect.db"
    database.parent.mkdir()
    (tmp_path / "pyproject.toml").write_text('[tool.prefect]\nhome = ".prefect"\n')
    holder = sqlite3.connect(database, isolation_level=None)
    holder.execute("CREATE TABLE something (number INTEGER)")
    holder.execute("BEGIN EXCLUSIVE")
    program = (
        "from pathlib import Path\n"
        "from distil_core.workspace import Workspace\n"
        "from flows.api_server import PrefectApiError, prefect_api\n"
        "try:\n"
        "    with prefect_api(Workspace(Path.cwd())) as api:\n"
        "        api.wait_until_ready()\n"
        "except PrefectApiError as error:\n"
        "    print(error)\n"
    )
    with closing(holder):
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env=scratch.environment(PYTHONPATH=str(scratch.PROJECT)),
            capture_output=True,
            text=True,
            check=True,
        )
    assert "its database is locked by another process" in done.stdout
    assert "database is locked)" in done.stdout
    assert "end that process, or wait for it, and run again" in done.stdout
