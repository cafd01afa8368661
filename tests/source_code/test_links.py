"""`code/`: links to users' sources, as they are (1 s)."""

import os
from pathlib import Path

import pytest

from distil_core.source_code import BUILT_IN_FILE, folder_for, link_sources, linked_modules
from distil_core.workspace import Workspace

FOCAL, JUDGE = "lab_l.focal", "lab_l.judge"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """With a package of the user's own in it."""
    root = tmp_path / "workspace"
    write(root, "lab_l/__init__.py", "")
    write(root, "lab_l/focal.py", "from lab_l import _losses\n")
    write(root, "lab_l/_losses.py", "")
    write(root, "lab_l/judge.py", "")
    monkeypatch.syspath_prepend(str(root))
    return Workspace(root)


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def links(workspace: Workspace) -> dict[str, str]:
    root = workspace.root / "code"
    return {
        path.relative_to(root).as_posix(): os.readlink(path)
        for path in sorted(root.rglob("*"))
        if path.is_symlink()
    }


def test_a_folder_is_named_after_its_modules() -> None:
    assert folder_for([]) == BUILT_IN_FILE
    assert folder_for([JUDGE, FOCAL, JUDGE]) == f"code/{FOCAL}+{JUDGE}"
    assert linked_modules(f"code/{FOCAL}+{JUDGE}") == [FOCAL, JUDGE]
    assert linked_modules(BUILT_IN_FILE) == []
    assert linked_modules("data/policy-000") == []


def test_code_of_the_workspace_is_linked_from_where_it_lies(workspace: Workspace) -> None:
    assert link_sources(workspace, [folder_for([FOCAL]), folder_for([FOCAL, JUDGE])]) == []
    up = "../../.."
    assert links(workspace) == {
        f"{FOCAL}/lab_l/__init__.py": f"{up}/lab_l/__init__.py",
        f"{FOCAL}/lab_l/_losses.py": f"{up}/lab_l/_losses.py",
        f"{FOCAL}/lab_l/focal.py": f"{up}/lab_l/focal.py",
        f"{FOCAL}+{JUDGE}/lab_l/__init__.py": f"{up}/lab_l/__init__.py",
        f"{FOCAL}+{JUDGE}/lab_l/_losses.py": f"{up}/lab_l/_losses.py",
        f"{FOCAL}+{JUDGE}/lab_l/focal.py": f"{up}/lab_l/focal.py",
        f"{FOCAL}+{JUDGE}/lab_l/judge.py": f"{up}/lab_l/judge.py",
    }
    for link in links(workspace):
        assert (workspace.root / "code" / link).is_file()
    assert (workspace.root / BUILT_IN_FILE).is_file()
    assert not (workspace.root / "code/.gitignore").exists()


def test_they_follow_what_is_imported(workspace: Workspace) -> None:
    folder = folder_for([FOCAL])
    link_sources(workspace, [folder])
    before = (workspace.root / folder / "lab_l/focal.py").lstat()
    write(workspace.root, "lab_l/focal.py", "from lab_l import extra\n")
    write(workspace.root, "lab_l/extra.py", "")
    link_sources(workspace, [folder])
    names = {Path(link).name for link in links(workspace)}
    assert names == {"__init__.py", "focal.py", "extra.py"}
    # What stays is not written again: others may look at it at this moment.
    assert (workspace.root / folder / "lab_l/focal.py").lstat() == before


def test_what_no_stage_uses_goes_and_what_is_gone_is_named(workspace: Workspace) -> None:
    link_sources(workspace, [folder_for([FOCAL]), folder_for([JUDGE])])
    (workspace.root / "lab_l/judge.py").unlink()
    assert link_sources(workspace, [folder_for([FOCAL]), folder_for([JUDGE])]) == [JUDGE]
    assert not (workspace.root / folder_for([JUDGE])).exists()
    assert link_sources(workspace, [BUILT_IN_FILE]) == []
    assert [path.name for path in (workspace.root / "code").iterdir()] == ["built_in.txt"]


@pytest.mark.parametrize("place", ["elsewhere", "workspace/.venv/lib", "workspace/e/site-packages"])
def test_code_from_outside_is_linked_absolutely_and_ignored_by_git(
    workspace: Workspace, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = workspace.root.parent / place
    write(outside, "lab_m/__init__.py", "")
    write(outside, "lab_m/expert.py", "")
    monkeypatch.syspath_prepend(str(outside))
    link_sources(workspace, [folder_for(["lab_m.expert", FOCAL])])
    folder = f"{FOCAL}+lab_m.expert"
    assert links(workspace)[f"{folder}/lab_m/expert.py"] == str(outside / "lab_m/expert.py")
    assert links(workspace)[f"{folder}/lab_l/focal.py"] == "../../../lab_l/focal.py"
    assert (workspace.root / "code/.gitignore").read_text().splitlines()[1:] == [
        f"/{folder}/lab_m/__init__.py",
        f"/{folder}/lab_m/expert.py",
    ]


def test_a_checkout_of_a_snapshot_is_made_links_again(workspace: Workspace) -> None:
    """There the files' contents stand in the links' place."""
    link = workspace.root / folder_for([FOCAL]) / "lab_l/focal.py"
    write(workspace.root, link.relative_to(workspace.root).as_posix(), "old\n")
    link_sources(workspace, [folder_for([FOCAL])])
    assert link.is_symlink()
