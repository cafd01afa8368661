"""Find the program in a response: which block it is, and how it continues the prompt."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_QUOTES = re.compile(r"(?:[ ]{0,3}>[ ]?)*")
_OPENING = re.compile(
    r"(?P<indent>[ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)*)(?P<fence>`{3,}|~{3,})(?P<info>[^\n]*)"
)
_CLOSING = re.compile(r"(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,})[ \t]*$")
_LABEL_PARTS = re.compile(r"[^\w+#-]+")
_PYTHON = re.compile(r"(?:i|c)?python[23]?|pypy[23]?|py[23]?")
_LABEL_OF_LABELS = ("language", "lang", "class", "code")
_CLOSING_INDENT = 3
_TAB = 4


class _Block(NamedTuple):
    """A code block. is_python: None where it has no label."""

    is_python: bool | None
    code: str


def extract_code(
    response: str, extraction: str, wanted: Sequence[re.Pattern[str]] = ()
) -> str | None:
    """The program in a response. None where the response is malformed: no Python block where one is
    required, or a fence that is never closed.

    Blocks labelled as Python come before unlabelled ones, which may be output. Of several, the last
    one that holds the first of `wanted` counts; else the last one with the next of `wanted`, and so
    on; else the last block.
    """
    blocks, closed = _fenced_blocks(response)
    for is_python in (True, None):
        found = [block.code for block in blocks if block.is_python is is_python]
        if extraction != "plain" and found:
            fitting = ([code for code in found if one.search(code)] for one in wanted)
            return next(filter(None, fitting), found)[-1]
    if extraction == "fenced" or (extraction == "either" and (blocks or not closed)):
        return None
    return response if response.strip() else None


def defines(names: Sequence[str]) -> re.Pattern[str]:
    """A pattern that finds a top-level definition of any of these names in a program."""
    either = "|".join(map(re.escape, names))
    defined = rf"^(?:(?:async[ \t]+)?def|class)[ \t]+(?:{either})\b"
    assigned = rf"^(?:{either})[ \t]*(?::[^=\n]+)?=(?!=)"
    return re.compile(f"{defined}|{assigned}", re.MULTILINE)


_READS = r"(?s:(?=.*?\b(?:input|stdin|open)\b))"
_WRITES = r"\b(?:print|stdout|write)\b"
READS_AND_WRITES = (re.compile(f"\\A{_READS}(?s:.*?){_WRITES}"), re.compile(_WRITES))
"""Find what a program that is judged by its output for an input has, or at least its output."""


def completions(code: str, stub: str, names: Sequence[str]) -> Iterator[tuple[str, int]]:
    """The programs that a response may stand for, the likeliest first, each with the number of
    lines before the response's own. It is either a whole program, or the continuation of `stub`,
    the beginning of a function at the end of the prompt. Models continue it with the body alone,
    sometimes without the blanks before its first line, and go on after it."""
    lines = code.splitlines(keepends=True)
    first = next((line for line in lines if line.strip()), "")
    if not stub or not first or defines(names).search(code):
        yield code, 0
        return
    stub = stub.rstrip("\n") + "\n"
    indent = _indent_of_body(stub)
    is_indented = first[0] in " \t"
    if not is_indented:
        yield code, 0
    bodies = [lines] if is_indented else [[indent + lines[0], *lines[1:]], _indented(lines, indent)]
    for text in dict.fromkeys([*map("".join, bodies), *map("".join, map(_body_alone, bodies))]):
        yield stub + text, stub.count("\n")


def _indent_of_body(stub: str) -> str:
    last = next((line for line in reversed(stub.splitlines()) if line.strip()), "")
    indent = last[: len(last) - len(last.lstrip())]
    return indent + "    " if last.rstrip().endswith(":") or not indent else indent


def _indented(lines: list[str], indent: str) -> list[str]:
    return [indent + line if line.strip() else line for line in lines]


def _body_alone(lines: list[str]) -> Iterator[str]:
    """The lines up to the first that is not indented, and so no longer part of the function."""
    for line in lines:
        if line.strip() and line[0] not in " \t":
            return
        yield line


def _fenced_blocks(text: str) -> tuple[list[_Block], bool]:
    """Each closed block, and whether all blocks are closed.

    As in CommonMark, a block ends at a line with only a fence that is at least as long as the
    opening one, and its lines lose the opening fence's indent. Only where no such line follows does
    it end at a fence that is indented further.
    """
    strict = _read_blocks(text, _CLOSING_INDENT)
    return strict if strict[1] else max(strict, _read_blocks(text, len(text)), key=lambda r: r[1])


def _read_blocks(text: str, closing_indent: int) -> tuple[list[_Block], bool]:
    blocks: list[_Block] = []
    opening: re.Match[str] | None = None
    num_quotes = width = 0
    lines: list[str] = []
    for line in text.splitlines(keepends=True):
        if opening is None:
            quotes = _QUOTES.match(line)
            start = quotes.end() if quotes else 0
            found = _OPENING.match(line, start)
            if found is not None and not (found["fence"][0] == "`" and "`" in found["info"]):
                opening, lines = found, []
                num_quotes, width = line[:start].count(">"), _width(found["indent"])
            continue
        content = _without_indent(_without_quotes(line, num_quotes), width)
        closing = _CLOSING.match(content.rstrip())
        if (
            closing is not None
            and closing["fence"].startswith(opening["fence"])
            and _width(closing["indent"]) <= closing_indent
        ):
            blocks.append(_Block(_is_python(opening["info"]), "".join(lines)))
            opening = None
        else:
            lines.append(content)
    return blocks, opening is None


def _is_python(info: str) -> bool | None:
    parts = [part for part in _LABEL_PARTS.split(info.lower()) if part]
    if parts and parts[0] in _LABEL_OF_LABELS:
        parts = parts[1:]
    return _PYTHON.fullmatch(parts[0]) is not None if parts else None


def _without_quotes(line: str, number: int) -> str:
    for _ in range(number):
        stripped = line.lstrip(" ")
        if not stripped.startswith(">"):
            break
        line = stripped[1:].removeprefix(" ")
    return line


def _without_indent(line: str, width: int) -> str:
    """The line without up to `width` columns of leading blanks."""
    taken = position = 0
    while taken < width and position < len(line) and line[position] in " \t":
        taken += 1 if line[position] == " " else _TAB - taken % _TAB
        position += 1
    return " " * max(0, taken - width) + line[position:]


def _width(indent: str) -> int:
    return len(indent.expandtabs(_TAB))
