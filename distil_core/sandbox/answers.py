"""Comparing and showing answers without building them: a set of a million equal hashes would cost
the host what it did not cost the program that claims it."""

import json
from collections.abc import Callable
from typing import Any

from distil_core.sandbox.inside.values import encode

_MAX_ITEMS_SHOWN = 30


def matches(expected: Any, encoded: Any, tuples_are_lists: bool = False) -> bool:
    """Whether the answer is `expected`, types included: 1, 1.0 and True differ. The order of sets
    and dicts does not count; NaN matches NaN. tuples_are_lists: for expected values from JSON,
    which has no tuples."""
    try:
        wanted = _canonical(encode(expected), tuples_are_lists)
        return json.dumps(wanted) == json.dumps(_canonical(encoded, tuples_are_lists))
    except (RecursionError, TypeError, ValueError, LookupError):
        # Deeper than Python goes, or no encoding at all.
        return False


def _canonical(tree: Any, tuples_are_lists: bool) -> Any:
    if type(tree) is float:
        return tree + 0.0
    if type(tree) is list:
        return [_canonical(item, tuples_are_lists) for item in tree]
    if type(tree) is not dict:
        return tree
    ((tag, content),) = tree.items()
    if type(content) is not list or tag == "c":
        return tree
    items = [_canonical(item, tuples_are_lists) for item in content]
    if tag == "t" and tuples_are_lists:
        return items
    return {tag: items if tag == "t" else sorted(items, key=json.dumps)}


def show(encoded: Any, max_characters: int = 200) -> str:
    """The answer as Python would write it, shortened in the middle."""
    try:
        text = _text(encoded, max_characters)
    except (RecursionError, TypeError, ValueError, LookupError):
        return "<deeply nested or malformed data>"
    return shorten(text, max_characters)


def shorten(text: str, max_characters: int) -> str:
    """`text` with its middle left out where it is longer."""
    if len(text) <= max_characters:
        return text
    half = (max_characters - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"


def _text(tree: Any, limit: int) -> str:
    if type(tree) is str:
        return repr(tree if len(tree) <= limit else shorten(tree, limit))
    if type(tree) is list:
        return f"[{_items(tree, limit)}]"
    if type(tree) is not dict:
        return repr(tree)
    ((tag, content),) = tree.items()
    if tag in _SHOWN:
        return _SHOWN[tag](content, limit)
    return shorten(str(content), limit)


def _tuple(content: list[Any], limit: int) -> str:
    return f"({_items(content, limit)}{',' if len(content) == 1 else ''})"


def _set(content: list[Any], limit: int) -> str:
    return f"{{{_items(content, limit)}}}" if content else "set()"


def _dict(content: list[Any], limit: int) -> str:
    pairs = (f"{_text(key, limit)}: {_text(item, limit)}" for key, item in _first(content))
    return "{" + ", ".join(pairs) + _rest(content) + "}"


_SHOWN: dict[str, Callable[[Any, int], str]] = {
    "t": _tuple,
    "s": _set,
    "f": lambda content, limit: f"frozenset({_set(content, limit) if content else ''})",
    "d": _dict,
    "b": lambda content, limit: repr(bytes.fromhex(content[: 2 * limit])),
    "c": lambda content, limit: repr(complex(*content)),
    "o": lambda content, limit: f"<an object of class {shorten(str(content), 60)}>",
}


def _items(content: list[Any], limit: int) -> str:
    return ", ".join(_text(item, limit) for item in _first(content)) + _rest(content)


def _first(content: list[Any]) -> list[Any]:
    return content[:_MAX_ITEMS_SHOWN]


def _rest(content: list[Any]) -> str:
    more = len(content) - _MAX_ITEMS_SHOWN
    return f", ... {more} more" if more > 0 else ""
