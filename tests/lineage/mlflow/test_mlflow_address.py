"""Where MLflow's record goes, and what is said where nobody answers there. No MLflow needed."""

import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from distil_core.doctor import _tracking
from distil_core.errors import LineageError
from distil_core.lineage.mlflow.address import (
    own_uri,
    require_answering,
    shown,
    tracking_uri,
    where_recorded,
    why_silent,
)
from distil_core.workspace import Workspace


@pytest.fixture
def answering() -> Iterator[str]:
    """A server that refuses every request, as one behind a gate does."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(401)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address at which nothing listens, kept from others meanwhile."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{holder.getsockname()[1]}"


@pytest.mark.parametrize("scheme", ["http", "postgresql", "mysql+pymysql"])
def test_a_server_that_is_gone_is_told(scheme: str, nobody: str) -> None:
    assert "refused" in str(why_silent(f"{scheme}://user:secret@{nobody}/mlflow"))


def test_a_server_that_answers_will_do(answering: str) -> None:
    assert why_silent(f"http://{answering}") is None
    assert why_silent(f"http://user:secret@{answering}/") is None
    assert why_silent(f"postgresql://{answering}/mlflow") is None


@pytest.mark.parametrize("uri", ["sqlite:////tmp/x.db", "databricks", "databricks://profile", ""])
def test_what_has_no_server_is_not_asked(uri: str) -> None:
    assert why_silent(uri) is None


def test_the_address_in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(tmp_path)
    for unset in (None, ""):
        if unset is None:
            monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        else:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", unset)
        assert tracking_uri(workspace) == own_uri(workspace) == where_recorded(workspace)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@example.org:8443/mlflow")
    assert where_recorded(workspace) == "https://example.org:8443/mlflow (MLFLOW_TRACKING_URI)"
    assert shown("sqlite:////a/b@c.db") == "sqlite:////a/b@c.db"


def test_nothing_begins_where_nobody_answers(
    tmp_path: Path, nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@{nobody}")
    with pytest.raises(LineageError) as raised:
        require_answering(Workspace(tmp_path))
    assert f"nobody answers at http://{nobody} (" in str(raised.value)
    assert "`unset MLFLOW_TRACKING_URI`" in str(raised.value)
    assert "secret" not in str(raised.value)
    (finding,) = _tracking(Workspace(tmp_path))
    assert finding.level == "problem"
    assert f"http://{nobody} (MLFLOW_TRACKING_URI): nobody answers" in finding.what
    assert "secret" not in finding.line()
