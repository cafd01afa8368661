"""What happens where bubblewrap is missing, or there but of no use."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from host_state import needs_bubblewrap

from distil_core.doctor import examine
from distil_core.errors import SandboxError
from distil_core.problems.base import Problem
from distil_core.sandbox import Call, Sandbox
from distil_core.verifiers import VERIFIERS
from distil_core.workspace import Workspace

PROJECT = Path(__file__).parents[2]
TOOLS = ("bash", "id", "sh", "ln", "touch", "chmod")


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder of commands without bubblewrap, to be all of PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        (folder / name).symlink_to(shutil.which(name) or name)
    return folder


def install(tools: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", PROJECT / "requirements" / "install_bubblewrap.sh"],
        env={"PATH": str(tools)},
        capture_output=True,
        text=True,
        check=False,
    )


def command(folder: Path, name: str, body: str) -> None:
    # Not through the link: root would write to the system's own command.
    (folder / name).unlink(missing_ok=True)
    (folder / name).write_text(f"#!{shutil.which('sh')}\n{body}\n", encoding="utf-8")
    (folder / name).chmod(0o755)


def test_the_set_up_installs_it_as_root(tools: Path) -> None:
    command(tools, "id", "echo 0")
    log = tools / "log"
    command(
        tools,
        "apt-get",
        f'echo "$*" >>{log}\n'
        f"[ $1 = update ] || {{ touch {tools}/bwrap; chmod 755 {tools}/bwrap; }}",
    )
    assert install(tools).returncode == 0
    assert "bubblewrap" in log.read_text(encoding="utf-8")
    log.unlink()
    assert install(tools).returncode == 0
    assert not log.exists()


@pytest.mark.parametrize("user", [0, 1000])
def test_the_set_up_says_what_to_do_where_it_cannot(user: int, tools: Path) -> None:
    command(tools, "id", f"echo {user}")
    if user:
        command(tools, "apt-get", f"touch {tools}/asked")
    result = install(tools)
    assert result.returncode == 1
    assert "apt install bubblewrap" in result.stderr
    assert not (tools / "asked").exists()


def test_without_bubblewrap_nothing_runs(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tools))
    with Sandbox() as sandbox, pytest.raises(SandboxError, match="apt install bubblewrap"):
        sandbox.run_program("print(1)")
    verifier = VERIFIERS.build("stdin_programs", {}, reveal="nothing")
    problem = Problem("Print 1.", "", '{"tests": [{"stdin": "", "stdout": "1"}]}')
    # The campaign stops: a row with an error for each rollout would hide what to do.
    with pytest.raises(SandboxError, match="apt install bubblewrap"):
        verifier.verify(problem, "print(1)")


def test_the_weak_mode_needs_no_bubblewrap_and_says_its_name(
    tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tools))
    with Sandbox(isolation="rlimits_only") as sandbox:
        result = sandbox.run_calls("def f(x): return x + 1", [Call("f", (1,))])
        assert result.calls[0].value == 2
        assert result.isolation == "rlimits_only"
        assert "NOT isolated" in sandbox.self_test()
        folder = sandbox.run_program("import os; print(os.getcwd())").stdout.decode().strip()
        assert Path(folder).is_dir()
    assert not Path(folder).exists()


def test_a_bubblewrap_that_fails_is_named_with_its_message(
    tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(tools, "bwrap", "echo 'bwrap: No permissions to create new namespace' >&2; exit 1")
    monkeypatch.setenv("PATH", str(tools))
    with Sandbox() as sandbox, pytest.raises(SandboxError, match=r"create new namespace.*sysctl"):
        sandbox.run_program("print(1)")


@needs_bubblewrap
def test_a_bubblewrap_that_does_not_isolate_is_refused(
    tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that runs the zygote with the host's files in sight."""
    real = shutil.which("bwrap")
    command(tools, "bwrap", f'exec {real} --ro-bind /etc /etc "$@"')
    monkeypatch.setenv("PATH", str(tools))
    with Sandbox() as sandbox, pytest.raises(SandboxError, match="read the host's accounts"):
        sandbox.run_program("print(1)")


@needs_bubblewrap
def test_doctor_tries_the_isolation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(tmp_path)
    assert any(
        finding.level == "ok" and finding.what.startswith("bubblewrap_zygote")
        for finding in examine(workspace)
    )
    # git is found, bubblewrap is not.
    (tmp_path / "git").symlink_to(shutil.which("git") or "git")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert any(
        finding.level == "note" and "apt install bubblewrap" in finding.what
        for finding in examine(workspace)
    )


def test_doctor_tries_the_isolation_of_tools_between_turns(tmp_path: Path) -> None:
    """Nothing of the default campaign runs code; a tool of its environment may."""
    params = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    python = {"name": "python", "options": {"isolation": "rlimits_only"}}
    params["context"]["environment"] = {
        "name": "tools",
        "options": {"tools": [python]},
        "max_turns": 2,
        "max_observation_tokens": 4,
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    found = [finding for finding in examine(Workspace(tmp_path)) if "rlimits_only" in finding.what]
    assert [finding.level for finding in found] == ["note"]
