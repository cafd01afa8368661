"""The page of benchmarks names its commands, and keeps all text that is not theirs."""

from pathlib import Path

import pytest

from benchmarks import page
from benchmarks.page import PAGE, commands_of, replaced

EXAMPLE = """# Title

Prose.
<!-- python -m benchmarks.a --n 3 -->
old a
<!-- end -->
Between.
<!-- python -m benchmarks.b -->
<!-- end -->
"""


def test_only_the_sections_of_the_commands_change() -> None:
    assert commands_of(EXAMPLE) == ["python -m benchmarks.a --n 3", "python -m benchmarks.b"]
    changed = replaced(EXAMPLE, {"python -m benchmarks.b": "\nprinted\n\n"})
    assert changed == EXAMPLE.replace("benchmarks.b -->\n<!--", "benchmarks.b -->\nprinted\n<!--")
    again = replaced(changed, dict.fromkeys(commands_of(changed), "new"))
    assert commands_of(again) == commands_of(EXAMPLE)
    assert again.count("new") == 2
    assert "old a" not in again


def test_a_backslash_in_the_output_is_itself() -> None:
    found = replaced(EXAMPLE, {"python -m benchmarks.b": r"\1 \g<0>"})
    assert r"\1 \g<0>" in found


def test_every_section_of_the_page_is_closed() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.count("<!-- python -m ") == text.count("<!-- end -->") == len(commands_of(text))


def test_a_failing_command_leaves_the_page_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "page.md"
    text = EXAMPLE.replace("benchmarks.a --n 3", "benchmarks.no_such_benchmark")
    file.write_text(text)
    monkeypatch.setattr(page, "PAGE", file)
    monkeypatch.setattr("sys.argv", ["page", "no_such"])
    with pytest.raises(SystemExit, match="no_such_benchmark failed with exit status 1"):
        page.main()
    assert file.read_text() == text
