r"""Remove marks around an answer that do not change its value: bold, code, maths delimiters, boxes.

Every verifier that reads numbers gets its text from here, so that `**18**`, `$18$`, `\text{18}` and
Arabic-Indic digits mean the same to all of them.
"""

import re
import unicodedata

_MAX_ROUNDS = 8
_MINUS = frozenset("\u2212\u2010\u2011\u2012\u2013\ufe63\uff0d")
_BLANK_CATEGORIES = ("Zs", "Zl", "Zp")
_OTHER = {
    "\u2019": "'", "\u02bc": "'", "\u2044": "/", "\u2215": "/", "\u2024": ".", "\u3002": ".",
    "\u066b": ".", "\u066c": ",", "\u2217": "*", "\u2236": ":", "\t": " ", "\n": " ", "\r": " ",
    "\u2026": "...",
}  # fmt: skip

_TEXT_MARKS = (
    "text|textbf|textit|textrm|textsf|texttt|textnormal|mathrm|mathbf|mathit|mathsf|mathtt|mathnormal"
    "|boldsymbol|bm|mbox|hbox|emph|underline|displaystyle|boxed|fbox|ensuremath|operatorname"
)
_ENCLOSED = re.compile(rf"\\(?:{_TEXT_MARKS})\s*\*?\s*(?={{)")
_HTML = re.compile(r"</?(?:b|strong|i|em|u|code|span|p|answer)>|<br\s*/?>", re.IGNORECASE)
_BOLD = tuple(
    re.compile(rf"(?<![\w)*_]){mark}(?=[^\s*_])([^*\n]*?[^\s*_]){mark}(?![\w(*_])")
    for mark in (r"\*\*\*", r"\*\*", r"\*", "__", "_")
)
_SPACES = (
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\!"), ""),
    (re.compile(r"(?<!\\)\\[,;:> ]|(?<=\S)~(?=\S)"), " "),
    (re.compile(r"\\(?:q?quad|thinspace|enspace|space|nobreakspace)(?![a-zA-Z])"), " "),
    (re.compile(r"\\[hv]space\s*\*?\{[^{}]{0,20}\}"), " "),
    (re.compile(r"\\(?:left|right|[bB]ig[gmlr]{0,2}|limits)(?![a-zA-Z])\.?"), " "),
    (re.compile(r"\\(?:display|text|script)style(?![a-zA-Z])"), " "),
    (re.compile(r"\\(?:text)?color\s*\{[^{}]{0,40}\}|\\(?:bf|rm|it|sf|tt)(?![a-zA-Z])"), " "),
    (re.compile(r"\\(?:[lL]arge|LARGE|[hH]uge|small|normalsize)(?![a-zA-Z])"), " "),
    (re.compile(r"(?<!\\)\\[()\[\]]"), " "),
    (re.compile(r"(?<!\\)\\([%&#])"), r"\1"),
    (re.compile(r"\\[dtc]frac(?![a-zA-Z])"), r"\\frac"),
)
# `**#### 18**` leaves half of its marks in the answer.
_LOOSE_END = re.compile(r"(?:\s|\\|~|\*\*+|`+|(?<![.\d])\.|(?<=\d)\.(?![.\d])|[;,])+$")
_LOOSE_START = re.compile(r"^(?:\s|\*\*+|`+|:)+")


def unmarked(text: str) -> str:
    r"""The text without such marks, with ASCII digits and minus signs, on one line.

    A pair of dollar signs delimits maths and is removed; a single one, or `\$`, is a currency and
    stays as `$`. `\text{..}` around only a part of the text stays, as it may hold a unit. The
    caller bounds the length of the text.
    """
    text = _HTML.sub("", _plain_characters(text))
    for pattern, replacement in _SPACES:
        text = pattern.sub(replacement, text)
    text = _without_dollars(text)
    for _ in range(_MAX_ROUNDS):
        before = text
        text = _without_enclosing(text.strip())
        for bold in _BOLD:
            text = bold.sub(r"\1", text)
        text = _LOOSE_START.sub("", _LOOSE_END.sub("", text.replace("`", " ")))
        if text == before:
            break
    return " ".join(text.split())


def _plain_characters(text: str) -> str:
    return "".join(map(_plain_character, text))


def _plain_character(character: str) -> str:
    if character in _OTHER or character.isascii():
        return _OTHER.get(character, character)
    category = unicodedata.category(character)
    if character in _MINUS or category in _BLANK_CATEGORIES or category == "Cf":
        return "-" if character in _MINUS else "" if category == "Cf" else " "
    if category == "Nd":
        return str(unicodedata.decimal(character))
    # Full-width letters and signs.
    return chr(ord(character) - 0xFEE0) if "\uff01" <= character <= "\uff5e" else character


def _without_dollars(text: str) -> str:
    parts = text.replace("$$", "$").split("\\$")
    if sum(part.count("$") for part in parts) % 2 == 0:
        parts = [part.replace("$", " ") for part in parts]
    return "$".join(parts)


def _without_enclosing(text: str) -> str:
    r"""The text without braces, quotes, and marks such as `\text{..}` that enclose all of it."""
    mark = _ENCLOSED.match(text)
    start = mark.end() if mark else 0
    if text[start : start + 1] == "{" and closing_brace(text, start) == len(text) - 1:
        return text[start + 1 : -1]
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" and text[0] not in text[1:-1]:
        return text[1:-1]
    return text


def closing_brace(text: str, start: int) -> int:
    """The position of the brace that closes the one at `start`, or -1."""
    depth = 0
    for brace in re.finditer(r"\\.|[{}]", text[start:]):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return start + brace.start()
    return -1
