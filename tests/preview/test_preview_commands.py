"""`distil preview` and `distil check-problems` as they are typed."""

import json
import sys
from pathlib import Path

import pytest

from distil_core.workspace import Workspace
from distil_flows.cli import main

sys.path.append(str(Path(__file__).parent))
from preview_scratch import files_of, make_base, tiny_settings, write_settings


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    write_settings(Workspace(tmp_path), tiny_settings())
    monkeypatch.chdir(tmp_path)
    return Workspace(tmp_path)


def distil(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["distil", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    return int(str(ended.value.code)), said.out + said.err


def test_preview(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = distil(monkeypatch, capsys, "preview")
    assert (status, "`dvc repro base`" in said) == (1, True), said
    make_base(workspace)
    before = files_of(workspace)
    # A base of twenty steps solves nothing, and so does the expert, which is the same.
    status, said = distil(monkeypatch, capsys, "preview", "--problems", "3")
    problems = "training toward it will hurt" in " ".join(said.split())
    assert (status == 1) >= problems, said
    assert "student's context" in said
    assert files_of(workspace) == before
    assert [path.name for path in workspace.scratch_dir.iterdir()] == ["preview.html"]
    status, said = distil(monkeypatch, capsys, "preview", "--set", "sample.temprature=1")
    assert (status, "did you mean temperature?" in said) == (1, True)


def test_check_problems(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = distil(monkeypatch, capsys, "check-problems", "--limit", "5")
    assert (status, "train 5" in said) == (0, True), said
    wrong = json.dumps({"name": "chain_arithmetic", "options": {"modulus": 5}})
    status, said = distil(
        monkeypatch, capsys, "check-problems", "--set", f"consult.verifier={wrong}"
    )
    assert status == 1, said
    status, said = distil(monkeypatch, capsys, "check-problems", "--answer-form", "no field")
    assert (status, "expected {reference} in it" in said) == (1, True)
    assert not list(workspace.scratch_dir.iterdir())
