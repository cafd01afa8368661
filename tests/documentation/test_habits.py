"""Files that hosts, tools and people look for say the same as pyproject.toml and the Makefile."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_pages import PROJECT, tracked_files
from setuptools import Distribution
from setuptools.config.pyprojecttoml import apply_configuration

DOCKERFILES = sorted((PROJECT / "docker").glob("*.Dockerfile"))


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    text = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    found: dict[str, Any] = tomllib.loads(text)["project"]
    return found


def read_yaml(name: str) -> Any:
    return yaml.safe_load((PROJECT / name).read_text(encoding="utf-8"))


def test_what_the_wheel_says_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    about = apply_configuration(Distribution(), PROJECT / "pyproject.toml").metadata
    assert about.get_name() == "distil"
    assert about.license_expression == "Apache-2.0"
    assert about.get_long_description().startswith("# DistIL")
    assert "DistIL contributors" in about.get_author()
    assert about.get_keywords()
    assert not any("License" in one for one in about.get_classifiers())


def test_the_licence_is_whole() -> None:
    text = (PROJECT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert all(f"\n   {number}. " in text for number in range(1, 10))


def test_the_citation_is_of_this_version(project: dict[str, Any]) -> None:
    citation = read_yaml("CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert str(citation["version"]) == project["version"]
    assert citation["license"] == project["license"]
    assert citation["authors"] == project["authors"]
    paper = citation["preferred-citation"]
    assert paper["identifiers"] == [{"type": "other", "value": "arXiv:2606.05152"}]


def test_the_changelog_has_this_version(project: dict[str, Any]) -> None:
    text = (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+)", text, re.MULTILINE)[:1] == ["Unreleased"]
    assert f"\n## {project['version']}\n" in text


def test_hooks_before_a_commit_are_what_make_check_runs() -> None:
    (repository,) = read_yaml(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local", "nothing is downloaded"
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    checks = re.search(r"^check:.*\n((?:\t.+\n)+)", makefile, re.MULTILINE)
    assert checks is not None
    asked = [shlex.split(line.replace("$(BIN)", ".venv/bin")) for line in checks[1].splitlines()]
    hooked = [shlex.split(hook["entry"]) for hook in repository["hooks"]]
    assert all(hook["language"] == "system" for hook in repository["hooks"])
    left = [[word for word in words if word != "--force-exclude"] for words in hooked]
    assert left == [[word for word in words if word != "."] for words in asked]


def test_the_workflow_runs_what_has_to_pass() -> None:
    workflow = read_yaml(".github/workflows/ci.yml")
    (job,) = workflow["jobs"].values()
    assert "bash .ci/run" in [step.get("run") for step in job["steps"]]
    assert workflow["permissions"] == {"contents": "read"}


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_copies_files_that_are_there(path: Path) -> None:
    ignored = path.with_name(f"{path.name}.dockerignore").read_text(encoding="utf-8")
    kept = set(re.findall(r"^!(\S+)", ignored, re.MULTILINE))
    assert all((PROJECT / name).exists() for name in kept)
    copied = re.findall(
        r"^COPY (?!--from)(.+) \S+$", path.read_text(encoding="utf-8"), re.MULTILINE
    )
    for name in " ".join(copied).split():
        assert (PROJECT / name).exists()
        assert name == "." or name.split("/")[0] in kept
    # What the package is built from is not left behind.
    links = {link.resolve().name for link in (PROJECT / "src").iterdir() if link.is_symlink()}
    assert {"src", "pyproject.toml", "README.md", "LICENSE", "presets"} | links <= kept


def test_nothing_names_a_registry() -> None:
    # In pieces, so that this file does not either.
    hosts = ("py" + "pi.org", "python" + "hosted.org", "npm" + "js.org", "deb" + "ian.org")
    for name in tracked_files():
        if name.endswith((".md", ".toml", ".yml", ".yaml", ".cff", ".Dockerfile", ".sh")):
            text = (PROJECT / name).read_text(encoding="utf-8")
            assert not any(host in text for host in hosts), name
