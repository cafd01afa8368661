"""Plain data as JSON that keeps exact types, both ways.

Answers come from code that nobody trusts, so the encoding is data only (no pickle, nothing to
evaluate), and small against its text (parsing a Python literal takes 300 times its size).
None, bool, str, int, float and list are JSON's own; the rest are objects of one key:
`{"t": [..]}` tuple, `{"s": [..]}` set, `{"f": [..]}` frozenset, `{"d": [[key, value], ..]}` dict,
`{"b": hex}` bytes, `{"c": [real, imaginary]}` complex, `{"i": hex}` an int past 1000 bits, and
`{"o": class}` for what is no plain data.
"""

import json
from typing import Any

HEAD_ROOM = 256
"""Bytes of a message around an answer."""
_NATIVE_INT_BITS = 1000
_SEQUENCES = {tuple: "t", set: "s", frozenset: "f"}
_BUILDERS: dict[str, Any] = {"t": tuple, "s": set, "f": frozenset}


class NotPlainDataError(ValueError):
    """A value that is not of the builtin types, or a text that is no encoding of one."""


def encode(value: Any) -> Any:
    """`value` as a JSON tree. A subclass of a builtin type is no plain data: its methods could
    say anything."""
    kind = type(value)
    if value is None or kind in (bool, str, float):
        return value
    if kind is int:
        return value if value.bit_length() <= _NATIVE_INT_BITS else {"i": hex(value)}
    if kind is list:
        return [encode(item) for item in value]
    if kind in _SEQUENCES:
        return {_SEQUENCES[kind]: [encode(item) for item in value]}
    if kind is dict:
        return {"d": [[encode(key), encode(item)] for key, item in value.items()]}
    if kind is bytes:
        return {"b": value.hex()}
    if kind is complex:
        return {"c": [value.real, value.imag]}
    return {"o": kind.__name__}


def decode(tree: Any) -> Any:
    """The value of a JSON tree. Raises `NotPlainDataError` for objects and malformed trees."""
    if tree is None or type(tree) in (bool, int, float, str):
        return tree
    if type(tree) is list:
        return [decode(item) for item in tree]
    if type(tree) is not dict or len(tree) != 1:
        raise NotPlainDataError(f"not an encoded value: {repr(tree)[:80]}")
    ((tag, content),) = tree.items()
    try:
        if tag in _BUILDERS:
            return _BUILDERS[tag]([decode(item) for item in content])
        if tag == "d":
            return {decode(key): decode(item) for key, item in content}
        if tag == "b":
            return bytes.fromhex(content)
        if tag == "c":
            return complex(*content)
        if tag == "i":
            return int(content, 16)
    except (TypeError, ValueError) as error:
        raise NotPlainDataError(f"not an encoded value: {error}") from error
    if tag == "o":
        raise NotPlainDataError(f"an object of class {str(content)[:80]}, which is no plain data")
    raise NotPlainDataError(f"not an encoded value: unknown tag {tag[:20]!r}")


def parse(text: bytes | bytearray) -> Any:
    """JSON that may come from an attacker. Raises `NotPlainDataError`."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotPlainDataError(f"not JSON: {error}") from error


def dump(tree: Any) -> bytes:
    """ASCII, so that any string, lone surrogates included, survives."""
    return json.dumps(tree, separators=(",", ":")).encode("ascii")
