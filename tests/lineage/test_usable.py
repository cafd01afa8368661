"""Where a workspace cannot lie, and what a user is told then."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from distil_core.doctor import Finding, _workspace
from distil_core.errors import LineageError
from distil_core.lineage.usable import require_usable, require_usable_folder
from distil_core.workspace import Workspace

PROJECT = Path(__file__).parents[2]


def repository(root: Path) -> Workspace:
    root.mkdir(parents=True)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    return Workspace(root)


def told(workspace: Workspace) -> list[Finding]:
    return [finding for finding in _workspace(workspace) if finding.level == "problem"]


@pytest.mark.parametrize("name", ["feature%2Fx", "what? really", "c#", "it's", "plain ü", "a b"])
def test_most_names_will_do(name: str, tmp_path: Path) -> None:
    require_usable(repository(tmp_path / name))


@pytest.mark.parametrize("name", ["br{y}", "a{b", "c}d"])
def test_braces_are_told_at_once(name: str, tmp_path: Path) -> None:
    workspace = repository(tmp_path / name / "workspace")
    with pytest.raises(LineageError, match="a path without braces"):
        require_usable_folder(workspace)
    assert any(finding.remedy.startswith("move the workspace") for finding in told(workspace))


@pytest.mark.parametrize("link", ["data", "data/iterations"])
def test_data_that_is_a_link_is_told_at_once(link: str, tmp_path: Path) -> None:
    workspace = repository(tmp_path / "workspace")
    (tmp_path / "disk").mkdir()
    (workspace.root / link).parent.mkdir(exist_ok=True)
    (workspace.root / link).symlink_to(tmp_path / "disk")
    with pytest.raises(LineageError, match=r"is a link to .*dvc cache dir --local"):
        require_usable(workspace)
    assert any("is a link to" in finding.what for finding in told(workspace))


def test_a_folder_that_is_no_repository_or_in_another(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with pytest.raises(LineageError, match=r"is no git repository: run `git init` there"):
        require_usable(Workspace(tmp_path / "plain"))
    inner = repository(tmp_path / "outer").root / "inner"
    inner.mkdir()
    with pytest.raises(LineageError, match="lies inside the git repository"):
        require_usable(Workspace(inner))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_repository_of_another_user_is_not_called_none(tmp_path: Path) -> None:
    workspace = repository(tmp_path / "workspace")
    for path in (workspace.root, *workspace.root.rglob("*")):
        shutil.chown(path, 12345, 12345)
    with pytest.raises(LineageError, match=r"belongs to user 12345.*safe\.directory") as caught:
        require_usable(workspace)
    assert str(workspace.root) in str(caught.value)
    [finding] = [one for one in told(workspace) if "git" in one.what]
    assert "git init" not in finding.remedy


def test_a_stages_own_command_says_so_before_it_works(tmp_path: Path) -> None:
    workspace = repository(tmp_path / "br{y}")
    done = subprocess.run(
        [sys.executable, "-m", "distil_tasks.problems"],
        cwd=workspace.root,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("problems: DVC cannot work in")


def test_a_folder_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    """On a read-only file system, as root may write in spite of permissions."""
    workspace = repository(tmp_path / "workspace")
    program = (
        "from pathlib import Path\n"
        "from distil_core.doctor import _workspace\n"
        "from distil_core.lineage.usable import require_usable\n"
        "from distil_core.workspace import Workspace\n"
        "workspace = Workspace(Path.cwd())\n"
        "print(*(f.line() for f in _workspace(workspace)))\n"
        "require_usable(workspace)\n"
    )
    mount = 'mount --bind . . && mount -o remount,bind,ro . && cd "$PWD" || exit 77'
    done = subprocess.run(
        [
            "unshare",
            "--mount",
            "sh",
            "-c",
            f'{mount}; exec "$@"',
            "sh",
            sys.executable,
            "-c",
            program,
        ],
        cwd=workspace.root,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("only root can mount a folder read-only")
    assert f"{workspace.root} is on a file system that is read-only" in done.stdout
    assert "LineageError" in done.stderr
    assert "copy the workspace to one that can be written" in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write in spite of permissions")
def test_a_folder_of_another_user_is_told_at_once(tmp_path: Path) -> None:
    workspace = repository(tmp_path / "workspace")
    (workspace.root / "data").mkdir(mode=0o500)
    with pytest.raises(LineageError, match=r"not writable: .*/data: `chmod -R u\+w`"):
        require_usable(workspace)
