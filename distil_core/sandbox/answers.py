"""Compare and show answers without building the Python values.

A program can claim a set of a million items with equal hashes, which costs it nothing and would
cost the host a lot to build. Here a comparison costs what the size of the expected value demands,
and showing an answer costs what is shown, however much more the answer holds.
"""

import hashlib
from collections.abc import Callable, Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Any

from distil_core.sandbox.inside.values import encode

_MAX_ITEMS_SHOWN = 30
_MAX_CHARACTERS_WRITTEN = 4000
# Larger fractions are no sensible answer, and would be expensive to reduce.
_MAX_DIGITS = 400


def matches(
    expected: Any, encoded: Any, tuples_are_lists: bool = False, numbers_are_one: bool = False
) -> bool:
    """Whether the encoded answer equals `expected`, types included: 1, 1.0 and True differ. The
    order of sets and dicts does not count; NaN equals NaN. A value of a subclass of a builtin type,
    such as a Counter or a named tuple, counts as the builtin value; a Fraction or Decimal counts as
    its number.

    Two options are for expected values from JSON. tuples_are_lists: a tuple equals a list with the
    same items, as JSON has no tuples. numbers_are_one: 2 equals 2.0, as in JSON; numbers are equal
    where Python says so, as 1 and True are.
    """
    rules = (tuples_are_lists, numbers_are_one)
    try:
        wanted = encode(expected)
        num_values = _count_values(wanted)
        if _count_values(encoded, num_values) != num_values:
            return False
        return _digest(wanted, *rules) == _digest(encoded, *rules)
    except (RecursionError, TypeError, ValueError, LookupError, ArithmeticError):
        # Nested deeper than Python allows, or not an encoding.
        return False


def _count_values(tree: Any, limit: int | None = None) -> int:
    """The number of values in the tree. Counting stops above `limit`, with some number larger than
    it."""
    count, waiting = 0, [tree]
    while waiting:
        kind, content = _node(waiting.pop())
        count += 1
        if kind in _CONTAINERS:
            if limit is not None and count + len(content) > limit:
                return limit + 1
            for item in content:
                waiting.extend(item) if kind == "d" else waiting.append(item)
        if limit is not None and count > limit:
            return count
    return count


_CONTAINERS = ("l", "t", "s", "f", "d")
_TAGS = ("t", "s", "f", "d", "b", "c", "i", "B", "o")


def _node(tree: Any) -> tuple[str, Any]:
    """Kind and content of a tree's root, where a value of a builtin type's subclass counts as the
    builtin value. The kind is '' for JSON's own values."""
    if type(tree) is list:
        return "l", tree
    if type(tree) is not dict:
        return "", tree
    ((tag, content),) = tree.items()
    if tag == "C":
        return _plain_node(*content)
    if tag not in _TAGS or (tag in _CONTAINERS and type(content) is not list):
        raise ValueError(f"no encoding of a value: {tag[:20]!r}")
    return tag, content


def _plain_node(name: str, *content: Any) -> tuple[str, Any]:
    if name in ("Counter", "OrderedDict", "defaultdict"):
        return "d", content[0]["d"]
    if name == "namedtuple":
        return "t", content[2]
    if name in ("Fraction", "Decimal") and all(len(str(part)) <= _MAX_DIGITS for part in content):
        number = (Fraction if name == "Fraction" else Decimal)(*content)
        if isinstance(number, Fraction) or abs(number.adjusted()) <= _MAX_DIGITS:
            return "", _plain_number(Fraction(number))
    return "o", name


def _plain_number(value: Fraction) -> Any:
    """The value as int or float; a fraction that is neither is returned as it is."""
    if value.denominator == 1:
        return value.numerator
    as_float = value.numerator / value.denominator
    return as_float if Fraction(as_float) == value else value


def _digest(tree: Any, tuples_are_lists: bool, numbers_are_one: bool) -> bytes:
    """A digest that equal values share, and different ones do not. Each part is hashed once."""

    def of(tree: Any) -> bytes:
        kind, content = _node(tree)
        if kind == "t" and tuples_are_lists:
            kind = "l"
        if kind in ("l", "t"):
            return _hash(kind, map(of, content))
        if kind in ("s", "f"):
            return _hash(kind, sorted(map(of, content)))
        if kind == "d":
            return _hash(kind, sorted(of(key) + of(item) for key, item in content))
        if kind == "i":
            kind, content = "", int(content, 16)
        if not kind and type(content) in (bool, int, float, Fraction):
            return _hash("", [_written_number(content, numbers_are_one).encode()])
        return _hash(kind, [f"{type(content).__name__} {content!r}".encode("utf-8", "replace")])

    return of(tree)


def _hash(kind: str, parts: Iterable[bytes]) -> bytes:
    digest = hashlib.blake2b(kind.encode() + b" ", digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.digest()


def _written_number(value: Any, numbers_are_one: bool) -> str:
    if numbers_are_one and type(value) is bool:
        value = int(value)
    if type(value) is float:
        if not (numbers_are_one and value.is_integer()):
            # Zero has no sign.
            return f"float {value + 0.0!r}"
        value = int(value)
    return f"int {value:x}" if type(value) is int else f"{type(value).__name__} {value!r}"


class _Written(str):
    """Text that is ready to show, as opposed to a tree that is a text."""

    __slots__ = ()


def show(encoded: Any, max_characters: int = 200) -> str:
    """The answer as Python would write it, shortened in the middle."""
    written, length, waiting = [], 0, [encoded]
    try:
        while waiting and length < max(_MAX_CHARACTERS_WRITTEN, 2 * max_characters):
            part = waiting.pop()
            if type(part) is _Written:
                written.append(str(part))
                length += len(part)
            else:
                waiting.extend(reversed(_parts(part, max_characters)))
    except (RecursionError, TypeError, ValueError, LookupError):
        return "<deeply nested or malformed data>"
    rest = " ..." if waiting else ""
    return shorten("".join(written) + rest, max_characters)


def shorten(text: str, max_characters: int) -> str:
    """`text` with its middle left out where it is longer."""
    if len(text) <= max_characters:
        return text
    half = (max_characters - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"


def _parts(tree: Any, limit: int) -> list[Any]:
    """The pieces in which a tree is written: texts, and the subtrees between them."""
    if type(tree) is str:
        return [_Written(repr(shorten(tree, limit)))]
    if type(tree) is list:
        return _listed("[", tree, "]")
    if type(tree) is not dict:
        return [_Written(repr(tree))]
    ((tag, content),) = tree.items()
    if tag in _SHOWN:
        return _SHOWN[tag](content, limit)
    return [_Written(shorten(str(content), limit))]


def _listed(opening: str, content: list[Any], closing: str) -> list[Any]:
    parts: list[Any] = [_Written(opening)]
    for index, item in enumerate(content[:_MAX_ITEMS_SHOWN]):
        parts += [_Written(", "), item] if index else [item]
    return [*parts, _Written(_rest(content) + closing)]


def _dict(content: list[Any], limit: int) -> list[Any]:
    parts: list[Any] = [_Written("{")]
    for index, (key, item) in enumerate(content[:_MAX_ITEMS_SHOWN]):
        parts += [*([_Written(", ")] if index else []), key, _Written(": "), item]
    return [*parts, _Written(_rest(content) + "}")]


def _rest(content: list[Any]) -> str:
    more = len(content) - _MAX_ITEMS_SHOWN
    return f", ... {more} more" if more > 0 else ""


def _known(content: list[Any], limit: int) -> list[Any]:
    """An object of a standard library class, written as a call of that class."""
    name, *rest = content
    if name != "namedtuple":
        return [_Written(shorten(str(name), 60)), *_listed("(", rest, ")")]
    kind, fields, values = rest
    parts: list[Any] = [_Written(f"{shorten(str(kind), 60)}(")]
    for index, (field, value) in enumerate(zip(fields[:_MAX_ITEMS_SHOWN], values, strict=False)):
        parts += [_Written(f"{', ' if index else ''}{shorten(str(field), 60)}="), value]
    return [*parts, _Written(_rest(values) + ")")]


def _object(content: Any, limit: int) -> list[Any]:
    name = content[0] if type(content) is list else content
    return [_Written(f"<an object of class {shorten(str(name), 60)}>")]


_SHOWN: dict[str, Callable[[Any, int], list[Any]]] = {
    "t": lambda content, limit: _listed("(", content, ",)" if len(content) == 1 else ")"),
    "s": lambda content, limit: _listed("{", content, "}") if content else [_Written("set()")],
    "f": lambda content, limit: (
        _listed("frozenset({", content, "})") if content else [_Written("frozenset()")]
    ),
    "d": _dict,
    "b": lambda content, limit: [_Written(repr(bytes.fromhex(content[: 2 * limit])))],
    "c": lambda content, limit: [_Written(repr(complex(*content)))],
    "C": _known,
    "m": lambda content, limit: [content[0]],
    "o": _object,
    "x": _object,
    "p": lambda content, limit: [
        _Written(shorten(content, 60) if type(content) is str else "<an object of the program>")
    ],
}
