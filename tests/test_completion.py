"""`distil completion` in real shells, and `distil --version` (10 s)."""

import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from distil_flows.cli import COMMANDS, main
from distil_flows.commands.completion import SHELLS


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["distil", "--version"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"distil {version('distil')}\n"


def script(shell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setattr(sys, "argv", ["distil", "completion", shell])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_is_completed(
    shell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = script(shell, monkeypatch, capsys)
    assert all(command.name in text for command in COMMANDS)
    assert "--overrides" not in text
    assert "--from-scratch" in text


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["distil", "rest"], {"restart"}),
        (["distil", "re"], {"record", "report", "reproduce", "restart"}),
        (["distil", "restart", "--pa"], {"--params"}),
        (["distil", "restart", "--params", "pres"], {"presets.yaml", "presets"}),
        (["distil", "check-component", "--kind", "ver"], {"verifier"}),
    ],
)
def test_bash_completes(
    line: list[str],
    expected: set[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    (tmp_path / "completion").write_text(script("bash", monkeypatch, capsys))
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets.yaml").write_text("")
    words = " ".join(f"'{word}'" for word in line)
    program = (
        "source completion; "
        f"COMP_WORDS=({words}); COMP_CWORD={len(line) - 1}; "
        "$(complete -p distil | sed 's/.*-F \\([^ ]*\\).*/\\1/'); "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        [bash, "--norc", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert {word.strip() for word in done.stdout.split()} == expected
