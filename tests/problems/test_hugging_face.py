"""A dataset of the hub, from a real server that speaks as much of its protocol as is needed."""

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distil_core.errors import ConfigError
from distil_core.problems import PROBLEM_SOURCES

REVISION = "0123456789abcdef0123456789abcdef01234567"
PREFIX = f"/datasets/some-org/sums/resolve/{REVISION}/"


def _parquet() -> bytes:
    buffer = io.BytesIO()
    rows = [{"q": f"{n}+{n}?", "a": str(2 * n)} for n in range(20)]
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


FILES = {
    "main/train.parquet": _parquet(),
    "test.jsonl": b'{"q": "1+2?", "a": "3"}\n{"q": "1+3?", "a": "4"}\n',
}


class _Hub(BaseHTTPRequestHandler):
    requested: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self._respond(with_body=False)

    def do_GET(self) -> None:
        self._respond(with_body=True)

    def _respond(self, with_body: bool) -> None:
        self.requested.append(f"{self.command} {self.path}")
        if not self.path.startswith("/datasets/some-org/sums/"):
            return self._missing("RepoNotFound")
        if not self.path.startswith(PREFIX):
            return self._missing("RevisionNotFound")
        content = FILES.get(self.path.removeprefix(PREFIX))
        if content is None:
            return self._missing("EntryNotFound")
        self.send_response(200)
        self.send_header("X-Repo-Commit", REVISION)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content)
        return None

    def _missing(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    _Hub.requested.clear()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


PROGRAM = """
import json, sys
from distil_core.errors import DistilError
from distil_core.problems import PROBLEM_SOURCES
try:
    source = PROBLEM_SOURCES.build("hugging_face", json.loads(sys.argv[1]))
    splits = {name: [p.prompt for p in source.problems(name, 1)] for name in ("train", "eval")}
    print(json.dumps(splits | {"report": source.report()}))
except DistilError as error:
    print(json.dumps({"error": f"{type(error).__name__}: {error}"}))
"""
OPTIONS = {
    "dataset": "some-org/sums",
    "revision": REVISION,
    "train": ["main/train.parquet"],
    "eval": ["test.jsonl"],
    "prompt_field": "q",
    "reference_field": "a",
    "allow_download": True,
}


def test_it_keeps_the_contract_of_sources(hub: str, tmp_path: Path) -> None:
    """By the command, in a process of its own: that reads where the hub is when it starts."""
    options = json.dumps({**OPTIONS, "eval": None, "eval_fraction": 0.4})
    done = subprocess.run(
        [
            *(sys.executable, "-m", "distil_flows.cli", "check-component"),
            *("hugging_face", "--options", options),
        ],
        cwd=tmp_path,
        env=os.environ
        | {
            "HF_ENDPOINT": hub,
            "HF_HOME": str(tmp_path / "home"),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed   the held-out problems are not those" in done.stdout


def load(endpoint: str, home: Path, **options: object) -> dict[str, object]:
    """In a process of its own: the hub's library reads its environment once."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if "proxy" not in name.lower() and not name.startswith("HF_")
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(OPTIONS | options)],
        env=kept | {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_downloaded_once_then_read_from_the_cache(hub: str, tmp_path: Path) -> None:
    found = load(hub, tmp_path)
    assert "error" not in found
    assert len(found["train"]) == 20
    assert sorted(found["eval"]) == ["1+2?", "1+3?"]
    assert any(line.startswith("GET") for line in _Hub.requested)
    _Hub.requested.clear()
    assert load(hub, tmp_path, allow_download=False) == found
    assert _Hub.requested == []


def test_nothing_is_asked_without_leave(hub: str, tmp_path: Path) -> None:
    found = load(hub, tmp_path, allow_download=False)
    assert "is not in the local cache, and allow_download is false" in str(found["error"])
    assert f"--repo-type dataset --revision {REVISION}" in str(found["error"])
    assert _Hub.requested == []


def test_without_network(tmp_path: Path) -> None:
    found = load("http://127.0.0.1:9", tmp_path)
    assert "DataError: cannot reach the Hugging Face hub for test.jsonl" in str(found["error"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dataset": "some-org/other"}, "RepositoryNotFoundError"),
        ({"revision": "f" * 40}, "RevisionNotFoundError"),
        ({"eval": ["absent.jsonl"]}, "EntryNotFoundError"),
    ],
)
def test_what_the_hub_does_not_have(
    hub: str, tmp_path: Path, change: dict[str, object], said: str
) -> None:
    found = load(hub, tmp_path, **change)
    assert "DataError: the Hugging Face hub does not give" in str(found["error"])
    assert said in str(found["error"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"revision": "main"}, "revision: String should match"),
        ({"dataset": "no slash"}, "dataset: String should match"),
        ({"train": ["data.csv"]}, r"expected files that end in \.parquet or \.jsonl"),
        ({"eval": None}, "expected one of eval"),
    ],
)
def test_settings_that_pin_nothing(change: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        PROBLEM_SOURCES.options("hugging_face", {**OPTIONS, **change})
