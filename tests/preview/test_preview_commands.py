"""`distil preview` and `distil check-problems` as they are typed."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from distil_core.workspace import Workspace

sys.path.append(str(Path(__file__).parent))
from preview_scratch import files_of, make_base, tiny_settings, write_settings


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    write_settings(Workspace(tmp_path), tiny_settings())
    monkeypatch.chdir(tmp_path)
    return Workspace(tmp_path)


def test_preview(workspace: Workspace, distil_command: Callable[..., tuple[int, str]]) -> None:
    status, said = distil_command("preview")
    assert (status, "`dvc repro base`" in said) == (1, True), said
    make_base(workspace)
    before = files_of(workspace)
    # A base of twenty steps solves nothing, and so does the expert, which is the same.
    status, said = distil_command("preview", "--problems", "3")
    problems = "training toward it will hurt" in " ".join(said.split())
    assert (status == 1) >= problems, said
    assert "student's context" in said
    assert files_of(workspace) == before
    assert [path.name for path in workspace.scratch_dir.iterdir()] == ["preview.html"]
    status, said = distil_command("preview", "--set", "sample.temprature=1")
    assert (status, "did you mean temperature?" in said) == (1, True)


def test_check_problems(
    workspace: Workspace, distil_command: Callable[..., tuple[int, str]]
) -> None:
    status, said = distil_command("check-problems", "--limit", "5")
    assert (status, "train 5" in said) == (0, True), said
    wrong = json.dumps({"name": "chain_arithmetic", "options": {"modulus": 5}})
    status, said = distil_command("check-problems", "--set", f"consult.verifier={wrong}")
    assert status == 1, said
    status, said = distil_command("check-problems", "--answer-form", "no field")
    assert (status, "expected {reference} in it" in said) == (1, True)
    assert not list(workspace.scratch_dir.iterdir())
