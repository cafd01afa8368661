"""`distil pin`: digests of the files that problems are read from, written into params.yaml."""

import hashlib
from pathlib import Path

import pytest

from distil_core.campaign.load import load_params
from distil_core.campaign.pins import pin_files, unpinned_files
from distil_core.config.models import PretrainedBase
from distil_core.errors import ConfigError
from distil_core.workspace import Workspace

OWN = """\
extends: default
problems:
  source:
    name: jsonl
    options:
      train: {path: data.jsonl} # mine
      eval: {path: "~/held out.jsonl", sha256: ""}
      prompt_field: question
      reference_field: answer
  num_train: all
  num_eval: all
base: {kind: pretrained, path_or_id: some/model} # a comment
"""
CHAT = "context: {student_template: '{prompt}|', expert_template: '{prompt}{attempt}|'}\n"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    (tmp_path / "data.jsonl").write_bytes(b'{"question": "?", "answer": "1"}\n')
    (home / "held out.jsonl").write_bytes(b'{"question": "??", "answer": "2"}\n')
    (tmp_path / "params.yaml").write_text(OWN + CHAT)
    return Workspace(tmp_path)


def test_digests_are_written_and_all_else_is_kept(workspace: Workspace) -> None:
    assert unpinned_files(workspace) == ["data.jsonl", "~/held out.jsonl"]
    train, held_out = pin_files(workspace)
    content = (workspace.root / "data.jsonl").read_bytes()
    assert train.setting == "problems.source.options.train.sha256"
    assert (train.before, train.now) == ("", hashlib.sha256(content).hexdigest())
    text = workspace.params_file.read_text()
    assert "# mine" in text
    assert "# a comment" in text
    options = load_params(workspace).problems.source.options
    assert options["train"] == {"path": "data.jsonl", "sha256": train.now}
    assert options["eval"]["sha256"] == held_out.now
    assert unpinned_files(workspace) == []


def test_pinning_again_changes_nothing_until_a_file_does(workspace: Workspace) -> None:
    pin_files(workspace)
    text = workspace.params_file.read_text()
    assert [each.before == each.now for each in pin_files(workspace)] == [True, True]
    assert workspace.params_file.read_text() == text
    with (workspace.root / "data.jsonl").open("ab") as file:
        file.write(b'{"question": "???", "answer": "3"}\n')
    train, held_out = pin_files(workspace)
    assert train.before != train.now
    assert held_out.before == held_out.now
    assert load_params(workspace).problems.source.options["train"]["sha256"] == train.now


def test_a_digest_of_digits_alone_stays_text(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = "1" * 62 + "e5"
    monkeypatch.setattr("distil_core.campaign.pins._digest", lambda *_: number)
    pin_files(workspace)
    assert load_params(workspace).problems.source.options["train"]["sha256"] == number


def test_a_file_that_is_not_there_changes_nothing(workspace: Workspace) -> None:
    (workspace.root / "data.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"cannot read data\.jsonl, which params\.yaml names"):
        pin_files(workspace)
    assert workspace.params_file.read_text() == OWN + CHAT


def test_a_base_in_a_file(workspace: Workspace) -> None:
    (workspace.root / "model.gguf").write_bytes(b"GGUF")
    text = workspace.params_file.read_text()
    workspace.params_file.write_text(text.replace("some/model", "model.gguf"))
    assert unpinned_files(workspace)[0] == "model.gguf"
    pinned = pin_files(workspace)[0]
    digest = hashlib.sha256(b"GGUF").hexdigest()
    assert (pinned.setting, pinned.before, pinned.now) == ("base.sha256", "", digest)
    base = load_params(workspace).base
    assert isinstance(base, PretrainedBase)
    assert base.sha256 == digest
    assert unpinned_files(workspace) == []


def test_settings_without_files(workspace: Workspace) -> None:
    workspace.params_file.write_text("extends: default\n")
    with pytest.raises(ConfigError, match=r"params\.yaml names no file to pin"):
        pin_files(workspace)


def test_a_digest_that_an_extended_file_has(workspace: Workspace) -> None:
    workspace.params_file.rename(workspace.root / "base.yaml")
    workspace.params_file.write_text("extends: base.yaml\nseed: 3\n")
    pin_files(workspace)
    assert unpinned_files(workspace) == []
    assert load_params(workspace).seed == 3
