"""Stages that a user adds to dvc.yaml, with what ours never have, beside and before ours."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from dvc_scratch import addresses, dvc, make_workspace, run_fake

from distil_core.errors import LineageError
from distil_core.lineage.dvc.lock import locked_dependencies, locked_outputs
from distil_core.lineage.dvc.stage import is_up_to_date
from distil_core.workspace import Workspace

OWN_STAGES = """
  fetch:
    cmd: cp served/rows.txt fetched.txt
    deps:
    - "{address}/rows.txt"
    params:
    - own.yaml:
    outs:
    - fetched.txt
  inner:
    cmd:
    - cp in.txt out.txt
    - cp in.txt also.txt
    wdir: sub
    deps:
    - in.txt
    params:
    - ../own.toml: [table.key]
    outs:
    - out.txt: {{cache: false}}
    - also.txt
  unrelated:
    cmd: touch done.txt
    always_changed: true
    outs:
    - done.txt
"""
ITS_CODE = "      - ${code.problems}\n"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing on the screen."""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """`problems` reads what the user's own stages write; those ran, by `dvc repro`."""
    workspace = make_workspace(tmp_path / "campaign")
    root = workspace.root
    for name, text in {
        "served/rows.txt": "rows\n",
        "own.yaml": "a: 1\nb: {c: 2}\n",
        "own.toml": "[table]\nkey = 3\n",
        "sub/in.txt": "in\n",
    }.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root / "served")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    text = (root / "dvc.yaml").read_text()
    assert text.count(ITS_CODE) == 1
    reading = "".join(
        f"      - {path}\n" for path in ("fetched.txt", "sub/out.txt", "sub/also.txt")
    )
    text = text.replace(ITS_CODE, ITS_CODE + reading)
    own = OWN_STAGES.format(address=f"http://127.0.0.1:{server.server_port}")
    (root / "dvc.yaml").write_text(text.replace("\nstages:\n", f"\nstages:{own}", 1))
    dvc(root, "repro", "-q", "fetch", "inner", "unrelated")
    server.shutdown()
    server.server_close()
    return workspace


def test_ours_run_beside_them_without_the_network(workspace: Workspace) -> None:
    assert not is_up_to_date(workspace, "problems")
    for address in addresses():
        assert run_fake(workspace, address).status == "ran"
    for address in addresses():
        assert run_fake(workspace, address).status == "unchanged"
    assert is_up_to_date(workspace, "gate@001")
    assert set(locked_dependencies(workspace, "problems")) == {
        *("code/built_in.txt", "fetched.txt", "sub/out.txt", "sub/also.txt")
    }
    # Its address in the web has no MD5, so it is no artifact of the campaign's lineage.
    assert locked_dependencies(workspace, "fetch") == {}
    assert set(locked_outputs(workspace, "inner")) == {"out.txt", "also.txt"}


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("own.yaml", "a: 1\nb: {c: 3}\n", r"fetch, .*own\.yaml changed"),
        ("own.toml", "[table]\nkey = 4\n", r"inner, .*own\.toml changed"),
        ("sub/in.txt", "other\n", r"inner, .*in\.txt changed"),
    ],
)
def test_what_they_read_makes_them_stale_first(
    workspace: Workspace, file: str, text: str, told: str
) -> None:
    run_fake(workspace, "problems")
    (workspace.root / file).write_text(text)
    assert not is_up_to_date(workspace, "problems")
    with pytest.raises(LineageError, match=told):
        run_fake(workspace, "problems")


def test_a_changed_command_is_told(workspace: Workspace) -> None:
    path = workspace.root / "dvc.yaml"
    path.write_text(path.read_text().replace("cp served/rows.txt", "cp -f served/rows.txt"))
    with pytest.raises(LineageError, match=r"fetch, .*its command in dvc\.yaml changed"):
        run_fake(workspace, "problems")


def test_a_key_that_is_not_read_changes_nothing(workspace: Workspace) -> None:
    run_fake(workspace, "problems")
    (workspace.root / "own.toml").write_text("[table]\nkey = 3\nother = 1\n")
    assert is_up_to_date(workspace, "problems")
