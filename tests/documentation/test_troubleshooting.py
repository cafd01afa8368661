"""docs/troubleshooting.md quotes messages that the code really has."""

import ast
import re

import pytest
from markdown_pages import PROJECT, tracked_files

PAGE = (PROJECT / "docs/troubleshooting.md").read_text(encoding="utf-8")
QUOTED = re.findall(r"^### `([^`]+)`$", PAGE, re.MULTILINE)
_CODE = ("distil_core/", "flows/", "tasks/")


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Every string of the code, with `..` for what a format string fills in."""
    found = []
    for name in tracked_files():
        if name.startswith(_CODE) and name.endswith(".py"):
            tree = ast.parse((PROJECT / name).read_text(encoding="utf-8"))
            found += [written(node) for node in ast.walk(tree) if isinstance(node, ast.expr)]
    return [text for text in found if text]


def written(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"\{[^{}]*\}", "..", node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else ".." for part in node.values
        )
    return ""


@pytest.mark.parametrize("message", QUOTED)
def test_a_quoted_message_is_one_of_ours(message: str, texts: list[str]) -> None:
    parts = [part.strip() for part in message.split("..") if part.strip(" :,")]
    assert parts
    assert any(all(part in text for part in parts) for text in texts), message


def test_there_are_many() -> None:
    assert len(QUOTED) >= 20
