"""Which Prefect API a run reports to, and that a server of our own never outlives it. 40 s."""

import http.server
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import front_door_scratch as scratch
import pytest

from distil_flows.api_server import PrefectApiError, answering, require_answering


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


@contextmanager
def impostor(version: str | int | None) -> Iterator[str]:
    """Says "true" to whoever asks for its health, and a version (or a status) to all else."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(version if isinstance(version, int) else 200)
            self.end_headers()
            health = self.path.endswith("/health") or version is None
            self.wfile.write(b"true" if health else json.dumps(version).encode())

        def log_message(self, *_: object) -> None:
            pass

        def send_response(self, code: int, message: str | None = None) -> None:
            super().send_response(200 if self.path.endswith("/health") else code, message)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("2.20.0", r"is Prefect 2\.20\.0: .*expected Prefect 3, as here: 3\."),
        ("4.0.0rc1", r"is Prefect 4\.0\.0rc1: "),
        (None, "does not say its Prefect version"),
        ("newest", "does not say its Prefect version"),
        ({"a": 1}, "does not say its Prefect version"),
        (404, r"does not say its Prefect version \(HTTP 404\)"),
        (401, r"wants credentials \(HTTP 401\): set PREFECT_API_AUTH_STRING"),
    ],
)
def test_a_server_of_another_version_is_told_in_a_line(version: Any, expected: str) -> None:
    with impostor(version) as url, pytest.raises(PrefectApiError, match=expected) as caught:
        require_answering(url)
    assert "\n" not in str(caught.value)
    assert url in str(caught.value)


def test_a_version_that_may_do_is_told_and_used() -> None:
    import prefect

    with impostor("3.0.1") as url:
        assert "is Prefect 3.0.1, this environment has 3." in require_answering(url)
    with impostor(prefect.__version__) as url:
        assert require_answering(url) == ""


_PROVE = """
import os, stat, sys, urllib.error, urllib.request
from pathlib import Path
import distil_flows.api_server as api_server
from distil_core.workspace import Workspace
from distil_flows.api_identity import is_ours
from distil_flows.api_server import PrefectApiError, prefect_api, require_own
os.umask(0)
url = sys.argv[1]
api_server.DEFAULT_URL = url
print("proved", is_ours(url))
try:
    print("serve", repr(require_own(url)))
except PrefectApiError as error:
    print("serve", error)
with prefect_api(Workspace(Path.cwd())) as api:
    print("own", api.own, api.note)
    if api.own:
        api.wait_until_ready()
        assert url not in (api.url, api.pages_url) or not api.own
        try:
            urllib.request.urlopen(f"{api.url}/admin/version", timeout=30)
        except urllib.error.HTTPError as error:
            print("without password", error.code)
        from prefect.client.orchestration import get_client
        with get_client(sync_client=True) as client:
            print("with password", bool(client.api_version()))
        files = [p for p in Path(".prefect").rglob("*") if p.is_file() and p.name.startswith("pre")]
        print("modes", {oct(stat.S_IMODE(p.stat().st_mode)) for p in files},
              oct(stat.S_IMODE(Path(".prefect").stat().st_mode)))
"""


def _prove(folder: Path, url: str) -> str:
    """What the program above says in a workspace whose settings have this address."""
    folder.mkdir(exist_ok=True)
    settings = f'[tool.prefect]\nhome = ".prefect"\n[tool.prefect.api]\nurl = "{url}"\n'
    (folder / "pyproject.toml").write_text(settings)
    done = subprocess.run(
        [sys.executable, "-c", _PROVE, url],
        cwd=folder,
        env=scratch.environment(PYTHONPATH=str(scratch.PROJECT)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_server_is_ours_by_proof_not_by_its_word(tmp_path: Path) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    own.mkdir()
    (own / "pyproject.toml").write_text('[tool.prefect]\nhome = ".prefect"\n')
    with scratch.prefect_server(own) as url:
        said = _prove(own, url)
        assert said == "proved True\nserve ''\nown False \n"
        # Nothing of the proof stays.
        with closing(sqlite3.connect(own / ".prefect" / "prefect.db")) as database:
            assert database.execute("SELECT count(*) FROM variable").fetchone() == (0,)
        said = _prove(other, url)
    assert "proved False\n" in said
    assert "serve the Prefect server at" in said
    assert f"export PREFECT_API_URL={url}" in said
    assert f"own True A Prefect server that is not this workspace's answers at {url}" in said
    # And its own one obeys nobody who has not the password.
    assert "without password 401\nwith password True\nmodes {'0o600'} 0o700\n" in said


def test_an_impostor_is_not_reported_to(tmp_path: Path) -> None:
    """It has the health and the version of this Prefect."""
    import prefect

    with impostor(prefect.__version__) as url:
        said = _prove(tmp_path / "workspace", url)
    assert said.startswith("proved False\nserve the Prefect server at")
    assert "own True A Prefect server that is not this workspace's" in said


def test_own_server_dies_with_a_killed_parent(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.prefect]\nhome = ".prefect"\n')
    program = (
        "import time\n"
        "from pathlib import Path\n"
        "from distil_core.workspace import Workspace\n"
        "from distil_flows.api_server import prefect_api\n"
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
        "from distil_flows.api_server import PrefectApiError, prefect_api\n"
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
        "from distil_flows.api_server import PrefectApiError, prefect_api\n"
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
