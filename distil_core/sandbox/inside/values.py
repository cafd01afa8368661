"""Plain data as JSON that keeps exact types, both ways.

Answers come from code that nobody trusts, so the encoding is data only (no pickle, nothing to
evaluate), and small against its text (parsing a Python literal takes 300 times its size).
None, bool, str, int, float and list are JSON's own; the rest are objects of one key:
`{"t": [..]}` tuple, `{"s": [..]}` set, `{"f": [..]}` frozenset, `{"d": [[key, value], ..]}` dict,
`{"b": hex}` bytes, `{"c": [real, imaginary]}` complex, `{"i": hex}` an int past 1000 bits, and
`{"o": class}` for what is no plain data.
"""

from collections.abc import Callable
from json import dumps, loads
from typing import Any

HEAD_ROOM = 256
"""Bytes of a message around an answer."""
_NATIVE_INT_BITS = 1000


class NotPlainDataError(ValueError):
    """A value that is not of the builtin types, or a text that is no encoding of one."""


def encode(value: Any) -> Any:
    """`value` as a JSON tree. A subclass of a builtin type is no plain data: its methods could
    say anything."""
    encoder = _ENCODERS.get(type(value))
    return {"o": type(value).__name__} if encoder is None else encoder(value)


def _encode_items(value: Any) -> list[Any]:
    return [encode(item) for item in value]


_ENCODERS: dict[type, Callable[[Any], Any]] = {
    **dict.fromkeys((type(None), bool, str, float), lambda value: value),
    int: lambda value: value if value.bit_length() <= _NATIVE_INT_BITS else {"i": hex(value)},
    list: _encode_items,
    tuple: lambda value: {"t": _encode_items(value)},
    set: lambda value: {"s": _encode_items(value)},
    frozenset: lambda value: {"f": _encode_items(value)},
    dict: lambda value: {"d": [_encode_items(pair) for pair in value.items()]},
    bytes: lambda value: {"b": value.hex()},
    complex: lambda value: {"c": [value.real, value.imag]},
}


def decode(tree: Any) -> Any:
    """The value of a JSON tree. Raises `NotPlainDataError` for objects and malformed trees."""
    if type(tree) is list:
        return [decode(item) for item in tree]
    if type(tree) is not dict:
        return tree
    if len(tree) != 1:
        raise NotPlainDataError(f"not an encoded value: {repr(tree)[:80]}")
    ((tag, content),) = tree.items()
    if tag == "o":
        raise NotPlainDataError(f"an object of class {str(content)[:80]}, which is no plain data")
    if tag not in _DECODERS:
        raise NotPlainDataError(f"not an encoded value: unknown tag {tag[:20]!r}")
    try:
        return _DECODERS[tag](content)
    except (TypeError, ValueError) as error:
        raise NotPlainDataError(f"not an encoded value: {error}") from error


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "i": lambda content: int(content, 16),
    "t": lambda content: tuple(decode(item) for item in content),
    "s": lambda content: {decode(item) for item in content},
    "f": lambda content: frozenset(decode(item) for item in content),
    "d": lambda content: {decode(key): decode(item) for key, item in content},
    "b": bytes.fromhex,
    "c": lambda content: complex(*content),
}


def parse(text: bytes | bytearray) -> Any:
    """JSON that may come from an attacker. Raises `NotPlainDataError`."""
    try:
        return loads(text)
    except (ValueError, RecursionError) as error:
        raise NotPlainDataError(f"not JSON: {error}") from error


def dump(tree: Any) -> bytes:
    """ASCII, so that any string, lone surrogates included, survives."""
    return dumps(tree, separators=(",", ":")).encode("ascii")
