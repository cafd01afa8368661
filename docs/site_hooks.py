"""What the site does with pages that lie beside docs/, and with links out of it (mkdocs.yml).

On the host of the repository a link may lead to any file. The site has the pages of docs/, those of
examples/ and the three that hosts look for elsewhere; a link to anything else becomes its path.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PROJECT = Path(__file__).parents[1]
_ELSEWHERE = {
    "CHANGELOG.md": "CHANGELOG.md",
    "CONTRIBUTING.md": ".github/CONTRIBUTING.md",
    "SECURITY.md": ".github/SECURITY.md",
}
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")


def sources() -> dict[str, str]:
    """By the page's path in the site: where it lies in the repository, beside docs/."""
    examples = sorted((PROJECT / "examples").rglob("README.md"))
    named = [str(page.relative_to(PROJECT)) for page in examples]
    return _ELSEWHERE | {name: name for name in named}


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """The pages from elsewhere; an example's page shows its settings too."""
    for name, source in sources().items():
        path = PROJECT / source
        text = path.read_text(encoding="utf-8")
        settings = path.with_name("params.yaml")
        if settings.is_file():
            text += f"\n```yaml\n{settings.read_text(encoding='utf-8')}```\n"
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **_: Any) -> str:
    """Links as the site has them."""
    here = posixpath.dirname(sources().get(page.file.src_uri, f"docs/{page.file.src_uri}"))
    places = {source: name for name, source in sources().items()}

    def moved(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        path = posixpath.normpath(posixpath.join(here, target))
        place = places.get(path, path.removeprefix("docs/") if path.startswith("docs/") else None)
        if place is None or files.get_file_from_path(place) is None:
            return text if text.startswith("`") else f"{text} (`{path}`)"
        start = posixpath.dirname(page.file.src_uri) or "."
        return f"[{text}]({posixpath.relpath(place, start)}{anchor})"

    return _LINK.sub(moved, markdown)
