"""What pip install of the wheel gives: a campaign anywhere, beside any modules of a user's own."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

sys.path.append(str(Path(__file__).parents[1] / "flows"))
sys.path.append(str(Path(__file__).parent))
import front_door_scratch as scratch
from installation import PROJECT, Installation, install

from distil_core.lineage.dvc.lock import read_entries
from distil_core.lineage.environment import package
from distil_core.workspace import Workspace


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return install(tmp_path_factory.mktemp("installed"))


@pytest.fixture(scope="module")
def campaign(installed: Installation, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace that has run, with modules of the user's own named as folders of ours."""
    folder = tmp_path_factory.mktemp("anywhere")
    params = scratch.tiny(yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8")))
    params["campaign"] = "away-from-source"
    (folder / "settings.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    root = folder / "my campaign"
    status, output = installed.run(
        folder, "distil", "init", str(root), "--from", "settings.yaml", **_NAMES
    )
    assert status == 0, output
    for name in ("flows", "tasks"):
        (root / f"{name}.py").write_text(f"raise RuntimeError('{name} is of the user')\n")
    (root / "below").mkdir()
    status, output = installed.run(root / "below", "distil", "run")
    assert status == 0, output
    return Workspace(root)


_NAMES = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", "test"), ("EMAIL", "test@example.org"))
}


def test_the_wheel_has_all_that_git_has(installed: Installation) -> None:
    """Templates, presets and pages, not only modules; and no package of a common name."""
    held = set(zipfile.ZipFile(installed.wheel).namelist())
    tops = {name.partition("/")[0] for name in held}
    assert {name for name in tops if not name.endswith(".dist-info")} == {
        "distil_core",
        "distil_flows",
        "distil_tasks",
    }
    tracked = subprocess.run(
        ["git", "ls-files", "distil_core", "flows", "tasks", "presets"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for path in tracked:
        top, _, rest = path.partition("/")
        folder = {"flows": "distil_flows", "tasks": "distil_tasks"}.get(top, top)
        folder = "distil_core/presets" if top == "presets" else folder
        if path != "distil_core/presets":
            assert f"{folder}/{rest}" in held, path


def test_the_wheel_and_its_source_are_told_to_be_the_same(
    installed: Installation, tmp_path: Path
) -> None:
    code = "from distil_core.lineage.environment import package; print(package())"
    status, output = installed.run(tmp_path, "python", "-c", code)
    assert (status, output.strip()) == (0, package())


def test_a_campaign_runs_where_no_source_is(installed: Installation, campaign: Workspace) -> None:
    assert (campaign.root / "report.html").exists()
    entries = read_entries(campaign)
    assert "gate@001" in entries
    status, output = installed.run(campaign.root, "dvc", "status")
    assert status == 0, output
    assert "up to date" in output
    status, output = installed.run(campaign.root, "dvc", "repro")
    assert (status, "Running stage" in output) == (0, False), output
    status, output = installed.run(campaign.root, "distil", "doctor")
    assert status == 0, output


def test_lineage_and_reproduction(installed: Installation, campaign: Workspace) -> None:
    """Snapshots name the package that made them; a rerun with the same one needs no clone."""
    status, output = installed.run(campaign.root, "distil", "lineage", "policy-001")
    assert status == 0, output
    status, output = installed.run(campaign.root, "distil", "reproduce", "away-from-source/1")
    assert status == 0, output
    assert "snapshot taken with distil: 0.1.0, source " in output
    assert "equal to the recorded ones, to the bit" in output


def test_reproduction_with_another_package_says_so(
    installed: Installation, campaign: Workspace
) -> None:
    """An edit of the installed package, as an upgrade makes it."""
    module = installed.programs.parent / "changed" / "distil_core"
    code = (
        "import sys, pathlib, shutil, distil_core;"
        f"shutil.copytree(pathlib.Path(distil_core.__file__).parent, {str(module)!r});"
        "flows = pathlib.Path(distil_core.__file__).parents[1]"
    )
    assert installed.run(campaign.root, "python", "-c", code)[0] == 0
    with (module / "seeds.py").open("a", encoding="utf-8") as file:
        file.write("\n# another version\n")
    status, output = installed.run(
        campaign.root,
        *("distil", "reproduce", "away-from-source/1"),
        PYTHONPATH=str(module.parent),
    )
    assert status == 0, output
    assert "Warning: other distil here" in output


def test_init_says_what_is_in_the_way(installed: Installation, campaign: Workspace) -> None:
    status, output = installed.run(campaign.root, "distil", "init", ".")
    assert status == 1
    assert "has dvc.yaml, dvc.lock, params.yaml, iterations.yaml, iterations already" in output
    status, output = installed.run(
        campaign.root.parent, "distil", "init", "another", "--preset", "mathe"
    )
    assert (status, "did you mean math" in output) == (1, True)
    assert not (campaign.root.parent / "another").exists()
