"""The page of benchmarks names its commands, and keeps all text that is not theirs."""

import pytest

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
    changed = replaced(EXAMPLE, ["python -m benchmarks.b"], lambda command: f"\n{command}!\n\n")
    assert changed == EXAMPLE.replace(
        "benchmarks.b -->\n<!--", "benchmarks.b -->\npython -m benchmarks.b!\n<!--"
    )
    again = replaced(changed, commands_of(changed), lambda command: "new")
    assert commands_of(again) == commands_of(EXAMPLE)
    assert again.count("new") == 2
    assert "old a" not in again


def test_a_backslash_in_the_output_is_itself() -> None:
    found = replaced(EXAMPLE, ["python -m benchmarks.b"], lambda command: r"\1 \g<0>")
    assert r"\1 \g<0>" in found


def test_every_section_of_the_page_is_closed() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.count("<!-- python -m ") == page.count("<!-- end -->") == len(commands_of(page))


def test_a_failing_command_stops_before_the_page_is_written() -> None:
    def fails(command: str) -> str:
        raise SystemExit(command)

    with pytest.raises(SystemExit, match=r"benchmarks\.b"):
        replaced(EXAMPLE, ["python -m benchmarks.b"], fails)
