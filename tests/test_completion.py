"""`distil completion` in real shells, and `distil --version` (10 s)."""

import shutil
import subprocess
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from distil_flows.cli import COMMANDS
from distil_flows.commands.completion import SHELLS

Distil = Callable[..., tuple[int, str]]


def test_version(distil_command: Distil) -> None:
    assert distil_command("--version") == (0, f"distil {version('distil')}\n")


def script(shell: str, distil_command: Distil) -> str:
    status, output = distil_command("completion", shell)
    assert status == 0
    return output


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_is_completed(shell: str, distil_command: Distil) -> None:
    text = script(shell, distil_command)
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
    line: list[str], expected: set[str], tmp_path: Path, distil_command: Distil
) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    (tmp_path / "completion").write_text(script("bash", distil_command))
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
