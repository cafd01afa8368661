"""A DVC remote on S3: a real server that speaks its protocol, in a process of its own."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from dvc_scratch import addresses, dvc, git, make_workspace, run_fake

from distil_core.errors import LineageError
from distil_core.lineage.dvc.remote import push_iteration
from distil_core.lineage.reproduce.rerun import reproduce, require_snapshot
from distil_core.lineage.snapshot.take import take_snapshot
from distil_core.workspace import Workspace


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """Address of a server with the empty bucket `artifacts`."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
    }.items():
        monkeypatch.setenv(name, value)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                httpx.put(f"{url}/artifacts", timeout=30, trust_env=False).raise_for_status()
                break
            except httpx.TransportError:
                assert process.poll() is None, (tmp_path / "server.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def test_a_fresh_clone_with_git_and_the_bucket_alone(endpoint: str, tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "campaign")
    for address in addresses():
        run_fake(workspace, address)
    root = workspace.root
    dvc(root, "remote", "add", "--default", "store", "s3://artifacts/campaign")
    dvc(root, "remote", "modify", "store", "endpointurl", endpoint)
    take_snapshot(workspace, 1)
    assert push_iteration(workspace, 1) > 0
    assert push_iteration(workspace, 1) == 0
    git(tmp_path, "clone", "-q", str(root), "clone")
    clone = Workspace(tmp_path / "clone")
    git(clone.root, "fetch", "-q", "origin", "refs/distil/*:refs/distil/*")
    snapshot = require_snapshot(clone, "scratch", 1)
    compared = reproduce(clone, snapshot, 1, lambda text: None)
    assert len(compared) == 12
    assert all(comparison.equal for comparison in compared)

    dvc(root, "remote", "modify", "store", "url", "s3://no-such-bucket/campaign")
    shutil.rmtree(root / ".dvc/tmp")
    with pytest.raises(LineageError, match=r"recorded here, but `dvc push`"):
        push_iteration(workspace, 1)
