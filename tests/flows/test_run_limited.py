"""`distil run --limit`: a campaign in a scratch folder, beside a workspace that does not change."""

import sys
from pathlib import Path

import pytest

from distil_core.workspace import Workspace
from distil_flows.cli import main

sys.path.append(str(Path(__file__).parents[1] / "preview"))
from preview_scratch import files_of, tiny_settings, write_settings


def limited(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], limit: str
) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["distil", "run", "--limit", limit])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    return int(str(ended.value.code)), " ".join((said.out + said.err).split())


def test_a_campaign_in_miniature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = Workspace(tmp_path)
    settings = tiny_settings()
    write_settings(workspace, settings)
    monkeypatch.chdir(tmp_path)
    before = files_of(workspace)
    status, said = limited(monkeypatch, capsys, "2")
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
    status, said = limited(monkeypatch, capsys, "2")
    assert status == 0, said
    status, said = limited(monkeypatch, capsys, "0")
    assert (status, "--limit must be at least 1, found 0" in said) == (1, True)
    assert "What was finished is kept" not in said
