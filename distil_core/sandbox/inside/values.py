"""Data as JSON that keeps exact types, both ways.

Answers come from code that nobody trusts, so the encoding is data only (no pickle, nothing to
evaluate), and small against its text (parsing a Python literal takes 300 times its size).
None, bool, str, int, float and list are JSON's own; the rest are objects of one key:
`{"t": [..]}` tuple, `{"s": [..]}` set, `{"f": [..]}` frozenset, `{"d": [[key, value], ..]}` dict,
`{"b": hex}` bytes, `{"c": [real, imaginary]}` complex, `{"i": hex}` an int past 1000 bits,
`{"C": [name, ..]}` an object of a class of the standard library (see `known_classes`),
`{"B": name}` a builtin type or function, and `{"o": class}` for what is no data.

A subclass of a builtin type crosses as the builtin value that it is: its own methods could say
anything. Two processes that hold objects for each other add `{"p": number}`, one that is held for
the other side; `{"m": [value, object]}`, such a subclass with the object that it is; and
`{"x": [class, number, attributes]}`, a copy of an object that has nothing but attributes, which are
null where the number came before.
"""

import builtins
from collections.abc import Callable
from json import dumps, loads
from types import BuiltinFunctionType
from typing import Any

from .known_classes import content_of_known, known_from_content

HEAD_ROOM = 256
"""Bytes of a message around an answer."""
_NATIVE_INT_BITS = 1000
EncodeObject = Callable[[Any], Any]
"""Makes the tree of an object that is no data, such as `{"o": ..}`."""
Resolve = Callable[[str, Any], Any]
"""Makes a value of a tag that holds an object ('o', 'p', 'm', 'x') and its content."""


class NotPlainDataError(ValueError):
    """A value that is not plain data, or a text that does not encode any."""


def encode(value: Any, encode_object: EncodeObject | None = None) -> Any:
    """`value` as a JSON tree. encode_object: makes the tree of what is not plain data; without it
    only the object's class name is sent."""
    encoder = _ENCODERS.get(type(value))
    return _encode_other(value, encode_object) if encoder is None else encoder(value, encode_object)


def _encode_items(value: Any, encode_object: EncodeObject | None) -> list[Any]:
    return [encode(item, encode_object) for item in value]


def _encode_pairs(value: Any, encode_object: EncodeObject | None) -> list[Any]:
    return [_encode_items(pair, encode_object) for pair in value]


_ENCODERS: dict[type, Callable[[Any, EncodeObject | None], Any]] = {
    **dict.fromkeys((type(None), bool, str, float), lambda value, encode_object: value),
    int: lambda value, encode_object: (
        value if value.bit_length() <= _NATIVE_INT_BITS else {"i": hex(value)}
    ),
    list: _encode_items,
    tuple: lambda value, encode_object: {"t": _encode_items(value, encode_object)},
    set: lambda value, encode_object: {"s": _encode_items(value, encode_object)},
    frozenset: lambda value, encode_object: {"f": _encode_items(value, encode_object)},
    dict: lambda value, encode_object: {"d": _encode_pairs(value.items(), encode_object)},
    bytes: lambda value, encode_object: {"b": value.hex()},
    complex: lambda value, encode_object: {"c": [value.real, value.imag]},
}

# The builtin value of a subclass's value, by the builtin class's own methods.
_AS_BUILTIN: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (int, lambda value: int.__add__(value, 0)),
    (float, float.__float__),
    (str, str.__str__),
    (bytes, lambda value: bytes.__getitem__(value, slice(None))),
    (complex, complex.__pos__),
    (list, lambda value: list(list.__iter__(value))),
    (tuple, lambda value: tuple(tuple.__iter__(value))),
    (set, lambda value: set(set.__iter__(value))),
    (frozenset, lambda value: frozenset(frozenset.__iter__(value))),
    (dict, lambda value: dict(dict.items(value))),
)
_BUILTINS = dict(vars(builtins))


def _encode_other(value: Any, encode_object: EncodeObject | None) -> Any:
    kind = type(value)
    if kind in (type, BuiltinFunctionType):
        name: str = value.__name__
        if _BUILTINS.get(name) is value:
            return {"B": name}
    known = content_of_known(value)
    if known is not None:
        name, content = known
        tree = {"C": [name, *_encode_items(content, encode_object)]}
        # A named tuple may have methods of its own.
        return (
            tree
            if encode_object is None or name != "namedtuple"
            else {"m": [tree, encode_object(value)]}
        )
    if kind.__module__ == "numpy" and hasattr(value, "tolist"):
        # A numpy array without dimensions, or a numpy number.
        return encode(value.item(), encode_object)
    plain = as_builtin(value)
    if plain is value:
        return {"o": kind.__name__} if encode_object is None else encode_object(value)
    tree = encode(plain, encode_object)
    return tree if encode_object is None else {"m": [tree, encode_object(value)]}


def as_builtin(value: Any) -> Any:
    """The builtin value of a value whose class is a subclass of a builtin type; any other value
    itself."""
    own = next((own for base, own in _AS_BUILTIN if issubclass(type(value), base)), None)
    return value if own is None else own(value)


def decode(tree: Any, resolve: Resolve | None = None) -> Any:
    """The value of a JSON tree. resolve: makes the value of trees that stand for objects. Raises
    `NotPlainDataError` for such trees without `resolve`, and for malformed trees."""
    if type(tree) is list:
        return [decode(item, resolve) for item in tree]
    if type(tree) is not dict:
        return tree
    if len(tree) != 1:
        raise NotPlainDataError(f"not an encoded value: {repr(tree)[:80]}")
    ((tag, content),) = tree.items()
    if tag in ("o", "p", "m", "x") and resolve is not None:
        return resolve(tag, content)
    if tag == "o":
        raise NotPlainDataError(f"an object of class {str(content)[:80]}, which is no plain data")
    if tag not in _DECODERS:
        raise NotPlainDataError(f"not an encoded value: unknown tag {tag[:20]!r}")
    try:
        return _DECODERS[tag](content, resolve)
    except (TypeError, ValueError, LookupError, ArithmeticError) as error:
        raise NotPlainDataError(f"not an encoded value: {error}") from error


_DECODERS: dict[str, Callable[[Any, Resolve | None], Any]] = {
    "i": lambda content, resolve: int(content, 16),
    "t": lambda content, resolve: tuple(decode(item, resolve) for item in content),
    "s": lambda content, resolve: {decode(item, resolve) for item in content},
    "f": lambda content, resolve: frozenset(decode(item, resolve) for item in content),
    "d": lambda content, resolve: {
        decode(key, resolve): decode(item, resolve) for key, item in content
    },
    "b": lambda content, resolve: bytes.fromhex(content),
    "c": lambda content, resolve: complex(*content),
    "B": lambda content, resolve: _BUILTINS[content],
    "C": lambda content, resolve: known_from_content(content[0], decode(content[1:], resolve)),
}


def parse(text: bytes | bytearray) -> Any:
    """The tree in a JSON text that may come from an attacker. Raises `NotPlainDataError`."""
    try:
        return loads(text)
    except (ValueError, RecursionError) as error:
        raise NotPlainDataError(f"not JSON: {error}") from error


def dump(tree: Any) -> bytes:
    """JSON as ASCII, so that every string survives, lone surrogates included."""
    return dumps(tree, separators=(",", ":")).encode("ascii")
