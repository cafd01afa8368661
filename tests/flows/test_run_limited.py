"""`distil run --limit`: a campaign in a scratch folder, beside a workspace that does not change."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from distil_core.workspace import Workspace

sys.path.append(str(Path(__file__).parents[1] / "preview"))
from preview_scratch import files_of, tiny_settings, write_settings


def test_a_campaign_in_miniature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, distil_command: Callable[..., tuple[int, str]]
) -> None:
    def limited(limit: str) -> tuple[int, str]:
        status, said = distil_command("run", "--limit", limit)
        return status, " ".join(said.split())

    workspace = Workspace(tmp_path)
    settings = tiny_settings()
    write_settings(workspace, settings)
    monkeypatch.chdir(tmp_path)
    before = files_of(workspace)
    status, said = limited("2")
    assert status == 0, said
    assert files_of(workspace) == before
    scratch = Workspace(workspace.scratch_dir / "miniature")
    assert scratch.decision_file(2).exists()
    assert not scratch.evaluation_file(3).exists()
    assert "iteration pass@1 pass@4" in said
    assert "nothing of the campaign was touched" in said
    (workspace.root / "teacher").mkdir()
    for file in scratch.policy_dir(0).iterdir():
        (workspace.root / "teacher" / file.name).write_bytes(file.read_bytes())
    settings["tabulate"]["expert"] = {
        "name": "white_box",
        "options": {"path": "teacher", "batch_size": 16},
    }
    write_settings(workspace, settings)
    status, said = limited("2")
    assert status == 0, said
    status, said = limited("0")
    assert (status, "--limit must be at least 1, found 0" in said) == (1, True)
    assert "What was finished is kept" not in said
