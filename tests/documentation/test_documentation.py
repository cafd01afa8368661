"""Whatever a page names is there: other pages, anchors, files, commands and options (5 s)."""

import argparse
import re
from functools import cache
from pathlib import Path

import pytest
from markdown_pages import PROJECT, Page, commands, pages, read_page, tracked_files

from distil_flows.cli import COMMANDS, full_parser

PAGES = pages()
_SOURCES = (".py", ".yaml", ".yml", ".toml", ".cff", ".sh", ".html", ".json")
_FOLDERS = "distil_core|flows|tasks|tests|docs|examples|presets|benchmarks|requirements|docker|src"


def identity(path: Path) -> str:
    return str(path.relative_to(PROJECT))


@pytest.mark.parametrize("path", PAGES, ids=identity)
def test_links_lead_somewhere(path: Path) -> None:
    assert [link for link in read_page(path).links if not leads_somewhere(path, link)] == []


@pytest.mark.parametrize("path", PAGES, ids=identity)
def test_files_that_are_named_exist(path: Path) -> None:
    missing = []
    for code in read_page(path).code:
        for name in re.findall(rf"(?<![\w/.-])(?:{_FOLDERS})/[\w./*{{}},-]*[\w*/]", code):
            if not exists(name):
                missing.append(name)
    assert missing == []


@pytest.mark.parametrize("path", PAGES, ids=identity)
def test_commands_that_are_named_exist(path: Path) -> None:
    page = read_page(path)
    wrong = [
        *(f"make {' '.join(words)}" for words in commands(page, "make") if not is_target(words)),
        *(f"distil {' '.join(words)}" for words in commands(page, "distil") if not is_ours(words)),
        *(
            f"python -m {' '.join(words)}"
            for words in commands(page, "python -m")
            if words and not is_module(words[0])
        ),
    ]
    assert wrong == []


def test_pages_that_sources_name_exist() -> None:
    """A docstring, comment or message that says docs/page.md#section, or a section of a text that
    is no file of the repository."""
    wrong = []
    for name in tracked_files():
        if name.endswith(_SOURCES) and name != identity(Path(__file__)):
            text = (PROJECT / name).read_text(encoding="utf-8")
            named = re.findall(r"(?<![\w/.-])docs/[\w-]+\.md(?:#[\w-]+)?", text)
            wrong += [(name, link) for link in named if not leads_somewhere(PROJECT / "x", link)]
            wrong += [(name, found) for found in re.findall(r"\b(?:METHOD|DESIGN) section", text)]
    assert wrong == []


def leads_somewhere(page: Path, link: str) -> bool:
    if re.match(r"https?://|mailto:", link):
        return True
    target, _, anchor = link.partition("#")
    path = (page.parent / target).resolve() if target else page
    if not path.exists() or not path.is_relative_to(PROJECT):
        return False
    return not anchor or (path.suffix == ".md" and anchor in read_page(path).anchors)


def exists(name: str) -> bool:
    """NNN and the like stand for a number; braces and stars are the shell's."""
    if re.search(r"[{}*]", name):
        pattern = re.escape(re.sub(r"\{[^}]*\}", "*", name)).replace(r"\*", "[^ ]*")
        return any(re.match(pattern, file) for file in tracked_files())
    if re.search(r"\b(?:NNN|NAME)\b", name):
        return True
    plain = name.removesuffix("/")
    return (PROJECT / plain).exists() or (PROJECT / f"{plain}.py").exists()


def is_target(words: list[str]) -> bool:
    targets = re.findall(r"^([a-z][\w-]*):", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    named = [word for word in words if "=" not in word and not word.startswith("-")]
    return bool(named) and named[0].rstrip(",.") in targets


def is_module(name: str) -> bool:
    """Of another's package, or one of ours that is there."""
    top, *rest = name.split("<", maxsplit=1)[0].rstrip(".").split(".")
    folder = PROJECT / ("benchmarks" if top == "benchmarks" else f"src/{top}")
    if top in ("flows", "tasks"):
        return False
    if not folder.is_dir():
        return True
    place = folder.joinpath(*rest)
    return place.with_suffix(".py").exists() or place.is_dir()


@cache
def options_of_commands() -> dict[str, set[str]]:
    """By the command's name; those of `distil` itself by none."""
    parser = full_parser()
    (commands_,) = (
        action.choices
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return {
        name: {option for action in one._actions for option in action.option_strings}
        for name, one in {"": parser, **commands_}.items()
    }


def is_ours(words: list[str]) -> bool:
    known = options_of_commands()
    name = "" if not words or words[0].startswith("-") else words[0]
    return name in known and all(
        word.split("=")[0].rstrip(",.") in known[name]
        for word in words
        if re.match(r"--[a-z]", word)
    )


def test_every_command_is_on_its_page() -> None:
    named = {words[0] for words in commands(read_page(PROJECT / "docs/commands.md"), "distil")}
    assert {command.name for command in COMMANDS} <= named


def test_the_check_finds_what_is_wrong(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One `two`\n\n[a](#one-two) [b](#one) [c](gone.md)\n\n`make nothing`, `distil restrat`, "
        "`distil restart --parms x`, `python -m distil_tasks.samples`, `tests/gone.py`\n",
        encoding="utf-8",
    )
    found: Page = read_page(page)
    assert found.anchors == {"one-two"}
    assert [link for link in found.links if not leads_somewhere(page, link)] == [
        "#one-two",
        "#one",
        "gone.md",
    ]
    assert not any(is_target(words) for words in commands(found, "make"))
    assert [is_ours(words) for words in commands(found, "distil")] == [False, False]
    assert not any(is_module(words[0]) for words in commands(found, "python -m"))
    assert not exists("tests/gone.py")
