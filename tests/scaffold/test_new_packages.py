"""`distil new`: a package of each kind is installed as written, and its own tests, the contract's
command, linters and types accept it (3 min: each kind imports torch four times)."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from distil_core.component_kinds import KINDS, registry_of
from distil_core.errors import ConfigError
from distil_core.scaffold import NewPackage, new_package
from tests.installed.virtual_environment import VirtualEnvironment, make_environment

PROJECT = Path(__file__).parents[2]
NAMES = {kind: f"my_{kind.replace(' ', '_')}" for kind in KINDS}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, NewPackage]:
    root = tmp_path_factory.mktemp("packages")
    return {kind: new_package(kind, name, root / name) for kind, name in NAMES.items()}


@pytest.fixture(scope="module")
def environment(
    packages: dict[str, NewPackage], tmp_path_factory: pytest.TempPathFactory
) -> VirtualEnvironment:
    """One that has all of the packages."""
    environment = make_environment(tmp_path_factory.mktemp("environment"))
    environment.pip_install(*(str(package.folder) for package in packages.values()))
    return environment


def checked(environment: VirtualEnvironment, folder: Path, *arguments: str) -> str:
    status, output = environment.run(folder, "python", "-m", *arguments)
    assert status == 0, output
    return output


@pytest.mark.parametrize("kind", KINDS)
def test_its_own_tests_pass(
    packages: dict[str, NewPackage], environment: VirtualEnvironment, kind: str
) -> None:
    """From outside of its folder, so that it is the installed package that is tried."""
    tests = str(packages[kind].folder / "tests")
    output = checked(
        environment, environment.programs, "pytest", "-q", "-p", "no:cacheprovider", tests
    )
    assert "passed" in output
    assert "failed" not in output


@pytest.mark.parametrize("kind", KINDS)
def test_check_component_accepts_it(
    packages: dict[str, NewPackage], environment: VirtualEnvironment, kind: str
) -> None:
    arguments = ["--rows", "tests/rows.jsonl"] if kind == "row format" else []
    if kind == "verifier":
        arguments = ["--source", NAMES["problem source"], "--response", "Answer: 12"]
    folder = packages[kind].folder
    output = checked(
        environment, folder, "distil_flows.cli", "check-component", NAMES[kind], *arguments
    )
    assert f"{kind} {NAMES[kind]!r}" in output
    assert " failed" not in output


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", [("ruff", "check"), ("ruff", "format", "--check")])
@pytest.mark.parametrize("name", ["q_1", f"a_long_name_{'m' * 28}"])
def test_it_is_formatted_whatever_it_is_called(
    tmp_path: Path, kind: str, name: str, command: tuple[str, ...]
) -> None:
    folder = new_package(kind, name, tmp_path / "package").folder
    done = subprocess.run(
        [sys.executable, "-m", *command, "--no-cache", "."],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_types_are_right(packages: dict[str, NewPackage], tmp_path: Path) -> None:
    """Strictly, with the settings that each package has; all at once, since mypy reads torch."""
    folders = [package.folder for package in packages.values()]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--follow-imports", "silent"),
            *("--config-file", str(folders[0] / "pyproject.toml"), "--cache-dir", str(tmp_path)),
            *(str(folder / part) for folder in folders for part in (folder.name, "tests")),
        ],
        cwd=folders[0].parent,
        # Where an installed DistIL would be found.
        env=os.environ | {"MYPYPATH": str(PROJECT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_the_readme_is_short_and_its_settings_are_some(
    packages: dict[str, NewPackage], kind: str
) -> None:
    lines = (packages[kind].folder / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 12
    [setting] = [line.split("`")[1] for line in lines if line.startswith("Settings name it")]
    values: dict[str, Any] = yaml.safe_load(setting.replace(", ..", ""))
    assert NAMES[kind] in str(values)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("MyVerifier", "expected the name of a Python module.*such as my_verifier$"),
        ("my-verifier", "such as my_verifier$"),
        ("9lives", "expected the name of a Python module"),
        ("", "expected the name of a Python module"),
        ("a" * 41, "up to 40"),
        ("class", "a word of Python's own"),
        ("match", "a word of Python's own"),
        ("json", "a module's name already: choose another name, such as my_json"),
        ("tests", "a module's name already"),
        ("final_number", "there is a verifier 'final_number' already, DistIL's own"),
        ("torch", "there is a module 'torch' already"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(tmp_path: Path, name: str, message: str) -> None:
    folder = tmp_path / "package"
    with pytest.raises(ConfigError, match=message):
        new_package("verifier", name, folder)
    assert not folder.exists()


def test_a_feedback_source_is_not_named_as_a_field_of_every_template(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a field of every template"):
        new_package("feedback source", "attempt", tmp_path / "package")


@pytest.mark.parametrize("there", ["folder", "file", "link"])
def test_what_is_there_stays(tmp_path: Path, there: str) -> None:
    target = tmp_path / "package"
    if there == "folder":
        target.mkdir()
    elif there == "file":
        target.write_text("mine")
    else:
        target.symlink_to("nowhere")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match="is there already, and nothing in it is touched"):
        new_package("verifier", "my_verifier", target)
    assert sorted(tmp_path.rglob("*")) == before


def test_no_folder_is_made_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="is a file, no folder"):
        new_package("verifier", "my_verifier", tmp_path / "file" / "package")


def test_the_command_writes_where_it_is_told(tmp_path: Path) -> None:
    def distil(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "distil_flows.cli", "new", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    done = distil("verifier", "exact_words")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "exact-words/exact_words/verifier.py").is_file()
    assert "pip install" in done.stdout
    assert distil("objective", "focal", "--directory", "of/mine").returncode == 0
    assert (tmp_path / "of/mine/focal/objective.py").is_file()
    again = distil("verifier", "exact_words")
    assert (again.returncode, again.stdout) == (1, "")
    assert "exact-words is there already, and nothing in it is touched" in again.stderr
    assert registry_of("verifier").names().count("exact_words") == 0
