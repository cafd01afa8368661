"""The pages as a site, built without a network where `make docs` has installed what that needs (20
s)."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from markdown_pages import PROJECT, read_page

MKDOCS = PROJECT / ".venv-docs" / "bin" / "mkdocs"


class _Loader(yaml.SafeLoader):
    """Reads what mkdocs.yml says of Python objects as their names."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda _, name, __: name)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not MKDOCS.exists():
        pytest.skip("no .venv-docs: `make docs` makes it")
    folder = tmp_path_factory.mktemp("site")
    # Python starts with this in place of the network.
    (folder / "offline").mkdir()
    (folder / "offline" / "sitecustomize.py").write_text(
        "import sys\n"
        "def refuse(event, _):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo'):\n"
        "        raise OSError('there is no network here')\n"
        "sys.addaudithook(refuse)\n"
    )
    done = subprocess.run(
        [MKDOCS, "build", "--strict", "--site-dir", folder / "site"],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": str(folder / "offline"), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


def test_every_page_is_there_and_reachable() -> None:
    listed = yaml.load((PROJECT / "mkdocs.yml").read_text(encoding="utf-8"), _Loader)["nav"]
    expected = {page.name for page in (PROJECT / "docs").glob("*.md")}
    expected |= {str(page.relative_to(PROJECT)) for page in PROJECT.glob("examples/**/README.md")}
    expected |= {"CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"}
    missing = expected - set(leaves(listed))
    assert missing == set(), "name these pages in `nav` of mkdocs.yml"


def test_every_page_is_on_the_first_one() -> None:
    named = {link.partition("#")[0] for link in read_page(PROJECT / "docs/index.md").links}
    pages = {page.name for page in (PROJECT / "docs").glob("*.md")} - {"index.md"}
    assert pages - named == set(), "name these pages in docs/index.md"


def test_it_asks_nobody_for_fonts_scripts_or_pictures(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert re.findall(r"<(?:script|img|iframe)[^>]+src=\"?https?:[^>]*", text) == []
        assert (
            re.findall(r"<link[^>]+rel=\"?(?:stylesheet|preconnect)[^>]+https?:[^>]*", text) == []
        )


def test_examples_show_their_settings_and_the_interface_its_docstrings(site: Path) -> None:
    example = (site / "examples" / "gsm8k" / "index.html").read_text(encoding="utf-8")
    assert "extends" in example
    assert "on_leak" in example
    interface = (site / "api.html").read_text(encoding="utf-8")
    assert "distil_core.objectives.base.ObjectiveBatch" in interface
    assert "The contract of an objective" in interface


def leaves(nav: object) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    parts = nav if isinstance(nav, list) else list(nav.values()) if isinstance(nav, dict) else []
    return [leaf for part in parts for leaf in leaves(part)]
