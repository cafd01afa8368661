"""Standard library objects that are as good as plain data: encoded as class name and content, and
made again from both.

A class is recognised by identity with the library's own, whatever its name. Its module is not
imported for that: a program that never imported `decimal` has no Decimal.
"""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

Content = tuple[Any, ...]
_VIEWS: dict[type, str] = {
    type({}.keys()): "dict_keys",
    type({}.values()): "dict_values",
    type({}.items()): "dict_items",
}
# From object to content and back, for objects of exactly these classes.
_CONTENT: dict[tuple[str, str], Callable[[Any], Content]] = {
    ("builtins", "range"): lambda value: (value.start, value.stop, value.step),
    ("builtins", "bytearray"): lambda value: (bytes(value),),
    ("collections", "Counter"): lambda value: (dict(value),),
    ("collections", "OrderedDict"): lambda value: (dict(value),),
    ("collections", "defaultdict"): lambda value: (dict(value), _type_or_none(value)),
    ("collections", "deque"): lambda value: (list(value), value.maxlen),
    ("array", "array"): lambda value: (value.typecode, value.tolist()),
    ("fractions", "Fraction"): lambda value: (value.numerator, value.denominator),
    ("decimal", "Decimal"): lambda value: (str(value),),
    ("datetime", "date"): lambda value: (value.isoformat(),),
    ("datetime", "time"): lambda value: (value.isoformat(),),
    ("datetime", "datetime"): lambda value: (value.isoformat(),),
    ("datetime", "timedelta"): lambda value: (value.days, value.seconds, value.microseconds),
    ("numpy", "ndarray"): lambda value: (value.tolist(), value.dtype.str),
}


def _type_or_none(value: Any) -> type | None:
    factory = value.default_factory
    return factory if type(factory) is type and factory.__module__ == "builtins" else None


def content_of_known(value: Any) -> tuple[str, Content] | None:
    """The class's name and the content; None for a value of any other class."""
    kind = type(value)
    if kind in _VIEWS:
        return _VIEWS[kind], (list(value),)
    fields = kind.__dict__.get("_fields")
    if kind.__bases__ == (tuple,) and type(fields) is tuple:
        return "namedtuple", (kind.__name__, list(fields), list(tuple.__iter__(value)))
    name = (kind.__module__, kind.__name__)
    if name not in _CONTENT or getattr(sys.modules.get(name[0]), name[1], None) is not kind:
        return None
    if name[0] == "numpy" and not value.shape:
        return None
    return name[1], _CONTENT[name](value)


_FROM_ITEMS: dict[str, Callable[..., Any]] = {
    "dict_keys": lambda items: dict.fromkeys(items).keys(),
    "dict_values": lambda items: dict(enumerate(items)).values(),
    "dict_items": lambda items: dict(items).items(),
    "range": range,
    "bytearray": bytearray,
}


def known_from_content(name: Any, content: list[Any]) -> Any:
    """The object with this content. Raises `ValueError`, `TypeError` or what the class itself
    raises for content that does not fit it."""
    if name in _FROM_ITEMS:
        return _FROM_ITEMS[name](*content)
    if name == "namedtuple":
        kind, fields, values = content
        return _imported("collections").namedtuple(kind, fields)(*values)
    module = next((module for module, known in _CONTENT if known == name), None)
    if module is None:
        raise ValueError(f"no known class: {name!r:.40}")
    known = getattr(_imported(module), name)
    if name == "defaultdict":
        return known(content[1], content[0])
    if name in ("date", "time", "datetime"):
        return known.fromisoformat(*content)
    if name == "ndarray":
        return _imported("numpy").array(content[0], dtype=content[1])
    return known(*content)


def _imported(module: str) -> ModuleType:
    return __import__(module)
