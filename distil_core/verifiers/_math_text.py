"""Reads a mathematical answer from text or LaTeX into a tree of plain values, for `_math_worker`.

A grammar that evaluates nothing decides what an answer consists of (numbers, sets, tuples,
intervals, relations). The leaves are single expressions in LaTeX that the worker can parse. Numbers
are exact fractions everywhere, so that nothing is rounded.
"""

import re
from typing import Any

from distil_core.verifiers._answer_text import closing_brace, unmarked
from distil_core.verifiers._final_answer import MAX_ANSWER_CHARACTERS
from distil_core.verifiers._math_latex import (
    MathTextError,
    expression_latex,
    in_latex,
    is_name,
    without_unit,
)
from distil_core.verifiers._number_text import read_clock, read_number

Node = dict[str, Any]

_MAX_DEPTH = 8
_MAX_ITEMS = 50
_WORD = r"\\(?:text\w{0,6}|mathrm|mbox)\s*\{\s*(?:%s)\s*,?\s*\}|(?<![\\\w])(?:%s)(?!\w)"
_OR = re.compile(_WORD % ("or", "or") + r"|\\(?:lor|vee)(?![a-zA-Z])")
_AND = re.compile(_WORD % ("and|&", "and") + r"|\\(?:land|wedge)(?![a-zA-Z])|&")
_COMMA = re.compile(r"[,;]")
_SET_OPERATIONS = {
    "union": re.compile(r"\\cup(?![a-zA-Z])"),
    "and": re.compile(r"\\cap(?![a-zA-Z])"),
    "difference": re.compile(r"\\(?:setminus|backslash|smallsetminus)(?![a-zA-Z])"),
}
_RELATION = re.compile(
    r"\\(?P<name>leqslant|geqslant|leq|geq|le|ge|lt|gt|neq|ne|in|approx|equiv)(?![a-zA-Z])"
    r"|(?P<sign><=|>=|!=|:=|[=<>])"
)
_RELATIONS = {
    "leqslant": "<=", "leq": "<=", "le": "<=", "geqslant": ">=", "geq": ">=", "ge": ">=",
    "lt": "<", "gt": ">", "neq": "!=", "ne": "!=", ":=": "=", "approx": "~", "equiv": "=",
}  # fmt: skip
_PLUS_MINUS = re.compile(r"\\(?:pm|mp)(?![a-zA-Z])")
_ELLIPSIS = re.compile(r"\.{3}|\\(?:l|c|v)?dots[a-z]?(?![a-zA-Z])")
_EMPTY = re.compile(
    r"\\(?:emptyset|varnothing)|\\\{\s*\\\}|(?:there (?:is|are) )?(?:no (?:real )?solutions?|none)",
    re.IGNORECASE,
)
_REALS = re.compile(r"\\mathbb\s*\{?R\}?|all real numbers|\\Reals?", re.IGNORECASE)
_BUILDER = re.compile(r"\\mid(?![a-zA-Z])|\||:")
_GROUPED = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?!\d|,\d)")
_TEXT = re.compile(r"\\(?:text\w{0,6}|mbox)\s*\{([^{}\\$]*)\}")
_COMMAND = re.compile(r"\\[a-zA-Z]*")
_SYMBOL = re.compile(r"[a-zA-Z](?:_\{?\w{1,10}\}?)?")
# Only inside of \\text{..}: elsewhere letters are variables.
_WORDS = re.compile(r"(?=.*[^\W\d_]{2})[^\W\d_][^\d=<>\\{}$]*")
_IN_BASE = re.compile(r"([0-9]{1,200})\s*_\{([0-9]{1,2})\}")
_WORDS_AND_NUMBERS = re.compile(r"[^\W\d_]{3}[^=<>\\{}$]*")
_COLLECTED = ("list", "or", "and")
_PAIRS = {"(": ")", "[": "]", "{": "}"}


def read_math(text: str, *, with_clock: bool = True) -> Node:
    """The whole text as one answer. with_clock: read 10:30 as a time of day instead of a ratio.

    Raises `MathTextError` for a text that is no answer; its `is_doubt` is set for an answer in
    doubt, such as `18 (maybe 17)` or `0.333...`.
    """
    if len(text) > MAX_ANSWER_CHARACTERS:
        raise MathTextError(f"has more than {MAX_ANSWER_CHARACTERS} characters")
    plain = unmarked(text)
    words = _TEXT.fullmatch(text.strip().strip("$").strip())
    if words and _WORDS.fullmatch(plain) and not _is_set(plain):
        return {"kind": "text", "text": plain_words(words[1])}
    if with_clock and (clock := read_clock(plain)):
        return {"kind": "clock", "seconds": clock.seconds, "exact": clock.exact}
    try:
        return _read(in_latex(plain), _MAX_DEPTH)
    except MathTextError as error:
        if error.is_doubt or not (words and _WORDS_AND_NUMBERS.fullmatch(plain)):
            raise
        return {"kind": "text", "text": plain_words(words[1])}


def plain_words(text: str) -> str:
    """Words in the form in which they are compared: lower case, without marks."""
    return (
        re.sub(r"[^\w]+", " ", _TEXT.sub(r" \1 ", unmarked(text[:MAX_ANSWER_CHARACTERS])))
        .strip()
        .lower()
    )


def _is_set(text: str) -> bool:
    return bool(_EMPTY.fullmatch(text) or _REALS.fullmatch(text))


def _read(text: str, depth: int) -> Node:
    text = text.strip()
    if depth == 0:
        raise MathTextError("is nested too deep")
    if not text:
        raise MathTextError("is empty")
    # In `x = 3, y = 4` the names matter.
    is_named = depth < _MAX_DEPTH and "=" in text
    if in_base := _IN_BASE.fullmatch(text):
        # Like a unit, it may be missing, and a different one makes a different number.
        unit = [f"base {int(in_base[2])}"]
        return {"kind": "number", "value": in_base[1], "unit": unit, "approximate": False}
    if not is_named and (number := read_number(text)):
        return {
            "kind": "number",
            "value": str(number.value),
            "unit": list(number.unit),
            "approximate": number.approximate,
        }
    if _EMPTY.fullmatch(text):
        return {"kind": "set", "items": []}
    if _REALS.fullmatch(text):
        ends = [_read(sign + r"\infty", depth - 1) for sign in ("-", "")]
        return {"kind": "tuple", "items": ends, "open": "(", "close": ")"}
    for reader in (_parts, _relation, _set_operation, _plus_minus, _bracketed, _ratio):
        if node := reader(text, depth):
            return node
    return _expression(text)


def _parts(text: str, depth: int) -> Node | None:
    """Several answers in one text: `1, 2`, `x = 1 or x = 2`, `x > 1 and x < 3`."""
    for pattern, kind in ((_OR, "or"), (_AND, "and"), (_COMMA, "list")):
        source = text
        if kind == "list" and re.search(r",\s", text):
            source = _GROUPED.sub(lambda match: match[0].replace(",", ""), text)
        parts = _split(source, pattern)
        if len(parts) == 1:
            continue
        # In "1, 2, and 3" the part between the comma and "and" is empty.
        items = [part.strip().rstrip(",;").strip() for part in parts]
        items = [item for item in items if item] if kind != "list" else items
        if not items or not all(items):
            raise MathTextError("has an empty part")
        nodes = [node for item in items for node in _flat(_item(item, depth - 1))]
        if len(nodes) > _MAX_ITEMS:
            raise MathTextError(f"has more than {_MAX_ITEMS} parts")
        is_region = kind != "list" and all(map(_may_be_region, nodes))
        is_region = is_region and any(node["kind"] != "tuple" for node in nodes)
        return {"kind": kind if is_region else "list", "items": nodes}
    return None


def _flat(node: Node) -> list[Node]:
    """The parts of parts as one list: "1, 2 and 3" has three."""
    return node["items"] if node["kind"] == "list" else [node]


def _may_be_region(node: Node) -> bool:
    return node["kind"] in ("relation", "union", "or", "and") or (
        node["kind"] == "tuple" and len(node["items"]) == 2
    )


def _item(text: str, depth: int) -> Node:
    return {"kind": "ellipsis"} if _ELLIPSIS.fullmatch(text) else _read(text, depth)


def _set_operation(text: str, depth: int) -> Node | None:
    for kind, pattern in _SET_OPERATIONS.items():
        parts = _split(text, pattern)
        if len(parts) > 1:
            return {"kind": kind, "items": [_read(part, depth - 1) for part in parts]}
    return None


def _relation(text: str, depth: int) -> Node | None:
    r"""Equations and inequalities, and `x \in S`: what is stated, with the name of the left
    side."""
    signs: list[str] = []

    def noted(match: re.Match[str]) -> bool:
        found = match["name"] or match["sign"]
        signs.append(_RELATIONS.get(found, found))
        return True

    sides = [side.strip() for side in _split(text, _RELATION, noted)]
    if not signs:
        return None
    if not sides[-1]:
        raise MathTextError("ends in a relation")
    if set(signs) <= {"=", "in", "~"} and is_name(sides[0]) and sides[0]:
        return {
            "kind": "named",
            "left": expression_latex(sides[0]) if _SYMBOL.fullmatch(sides[0]) else None,
            "sides": [_read(side, depth - 1) for side in sides[1:]],
        }
    if "in" in signs or "~" in signs:
        raise MathTextError("is no single value", is_doubt=True)
    if not sides[0]:
        # `\ne 18`, `> 18`: of what?
        raise MathTextError("says what the answer is not", is_doubt=True)
    nodes = [_read(side, depth - 1) for side in sides]
    return {"kind": "relation", "sides": nodes, "signs": signs}


def _plus_minus(text: str, depth: int) -> Node | None:
    if not _PLUS_MINUS.search(text):
        return None
    both = []
    for upper, lower in (("+", "-"), ("-", "+")):
        one = re.sub(r"\\pm(?![a-zA-Z])", upper, text)
        both.append(_read(re.sub(r"\\mp(?![a-zA-Z])", lower, one).lstrip("+"), depth - 1))
    return {"kind": "list", "items": both}


def _bracketed(text: str, depth: int) -> Node | None:
    """Sets, tuples and intervals. Brackets around one item mean the item."""
    if _end_of_bracket(text) != len(text):
        return None
    if text.startswith("\\{"):
        inner = text[2:-2]
        condition = _split(inner, _BUILDER)
        if len(condition) == 2:
            return _read(condition[1], depth - 1)
        node = _inner(inner, depth)
        items = node["items"] if node["kind"] in _COLLECTED else [node]
        return {"kind": "set", "items": items}
    opening, closing = text[0], text[-1]
    node = _inner(text[1:-1], depth)
    if node["kind"] in _COLLECTED:
        return {"kind": "tuple", "items": node["items"], "open": opening, "close": closing}
    return node if _PAIRS.get(opening) == closing else None


def _inner(text: str, depth: int) -> Node:
    return _parts(text, depth) or _read(text, depth - 1)


def _end_of_bracket(text: str) -> int:
    """The position at which the bracket at the start of the text closes, or -1."""
    if not text.startswith(("(", "[", "\\{")):
        return -1
    depth = 0
    for match in re.finditer(r"\\[{}]|[(\[{}\])]", text):
        depth += 1 if match[0][-1] in "([{" else -1
        if depth == 0:
            return match.end()
    return -1


def _ratio(text: str, depth: int) -> Node | None:
    parts = _split(text, re.compile(":"))
    if len(parts) == 1:
        return None
    return {"kind": "ratio", "items": [_read(part, depth - 1) for part in parts]}


def _expression(text: str) -> Node:
    if _ELLIPSIS.search(text):
        raise MathTextError("leaves out a part of what it says", is_doubt=True)
    body, unit = without_unit(text)
    latex = expression_latex(body)
    return {"kind": "expression", "latex": latex, "unit": list(unit)}


def _split(text: str, pattern: re.Pattern[str], noted: Any = None) -> list[str]:
    """The text split at each match that is not inside brackets."""
    parts, start, at = [], 0, 0
    depth = 0
    while at < len(text):
        match = pattern.match(text, at) if depth == 0 else None
        if match and match.end() > at:
            if noted:
                noted(match)
            parts.append(text[start:at])
            start = at = match.end()
            continue
        if text[at] == "\\":
            if text[at + 1 : at + 2] in ("{", "}"):
                depth += 1 if text[at + 1] == "{" else -1
                at += 2
                continue
            command = _COMMAND.match(text, at)
            depth += {"\\begin": 1, "\\end": -1}.get(command[0] if command else "", 0)
            at = max(command.end() if command else at, at + 1)
            continue
        if text[at] == "{":
            end = closing_brace(text, at)
            if end < 0:
                break
            at = end + 1
            continue
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(text[at], 0)
        at += 1
    return [*parts, text[start:]]
