"""What the repository's Markdown pages name: links, anchors, files and commands."""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

PROJECT = Path(__file__).parents[2]
_COMMAND_FENCES = ("", "sh", "console", "bash")


@dataclass
class Page:
    """links: as written, without pictures' texts. anchors: what a link may name after `#`. code:
    each code span and each line of a block that is no program text or settings."""

    path: Path
    links: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    code: list[str] = field(default_factory=list)


@cache
def tracked_files() -> tuple[str, ...]:
    """Every file of the repository, git's and the new ones that git does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    return tuple(name for name in done.stdout.split("\0") if name and (PROJECT / name).exists())


def pages() -> list[Path]:
    """Without parts of pages, which lie in the code and link from where they end up."""
    return [
        PROJECT / name
        for name in tracked_files()
        if name.endswith(".md") and not name.startswith("distil_core/")
    ]


@cache
def read_page(path: Path) -> Page:
    """The page, parsed as CommonMark with tables."""
    page, seen = Page(path), set[str]()
    tokens = MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8"))
    for position, token in enumerate(tokens):
        if token.type == "heading_open":
            page.anchors.add(_unique(_slug(_text(tokens[position + 1])), seen))
        if token.type == "fence" and token.info.split(" ")[0] in _COMMAND_FENCES:
            page.code += token.content.splitlines()
        if token.type == "code_block":
            page.code += token.content.splitlines()
        for inner in token.children or ():
            if inner.type == "link_open":
                page.links.append(str(inner.attrs["href"]))
            if inner.type == "image":
                page.links.append(str(inner.attrs["src"]))
            if inner.type == "code_inline":
                page.code.append(inner.content)
    return page


def commands(page: Page, program: str) -> Iterator[list[str]]:
    """The words after `program` wherever a code span or line begins with it, up to a comment, a
    pipe or a second command."""
    for line in page.code:
        for part in re.split(r"&&|;|\|(?!\|)", line):
            bare = re.sub(r"\s#.*$", "", part).strip().removeprefix("$ ").strip()
            if bare == program or bare.startswith(f"{program} "):
                yield bare.removeprefix(program).split()


def _text(inline: Token) -> str:
    return "".join(
        child.content for child in inline.children or () if child.type in ("text", "code_inline")
    )


def _slug(heading: str) -> str:
    """As GitHub and the site's table of contents make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def _unique(slug: str, seen: set[str]) -> str:
    number, candidate = 0, slug
    while candidate in seen:
        number += 1
        candidate = f"{slug}-{number}"
    seen.add(candidate)
    return candidate
