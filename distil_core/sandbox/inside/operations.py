"""The operations that one process may do on an object held by another, by special method."""

import operator
from collections.abc import Callable
from typing import Any

from .values import as_builtin

_BINARY = "add sub mul truediv floordiv mod pow matmul and or xor lshift rshift"
_COMPARISONS = "eq ne lt le gt ge"
_UNARY = "neg pos abs invert"


def _binary(name: str) -> Callable[[Any, Any], Any]:
    found: Callable[[Any, Any], Any] = getattr(
        operator, f"{name}_" if name in ("and", "or") else name
    )
    return found


def _reflected(name: str) -> Callable[[Any, Any], Any]:
    forward = _binary(name)
    return lambda held, other: forward(other, held)


COMPARING = {f"__{name}__": _binary(name) for name in _COMPARISONS.split()}
COMPUTING = {
    **{f"__{name}__": _binary(name) for name in _BINARY.split()},
    **{f"__r{name}__": _reflected(name) for name in _BINARY.split()},
}
"""Two operands, of which the other may be plain data."""
CONVERTING: dict[str, Callable[..., Any]] = {
    **{f"__{name}__": getattr(operator, name) for name in _UNARY.split()},
    "__int__": int,
    "__float__": float,
    "__round__": round,
    "__hash__": hash,
}
USING: dict[str, Callable[..., Any]] = {
    "__call__": lambda held, *arguments, **keywords: held(*arguments, **keywords),
    "__iter__": iter,
    "__next__": next,
    "__reversed__": lambda held: iter(reversed(held)),
    "__len__": len,
    "__bool__": bool,
    "__getitem__": operator.getitem,
    "__setitem__": operator.setitem,
    "__delitem__": operator.delitem,
    "__enter__": lambda held: type(held).__enter__(held),
    "__exit__": lambda held, *_: bool(type(held).__exit__(held, None, None, None)),
}
ALWAYS: dict[str, Callable[..., Any]] = {
    "__getattr__": getattr,
    "__setattr__": setattr,
    "__delattr__": delattr,
    "__str__": str,
    "__repr__": repr,
    "__instancecheck__": lambda held, value: isinstance(value, held),
    "await": lambda held: __import__("asyncio").run(held),
    "plain": as_builtin,
}
OPERATIONS: dict[str, Callable[..., Any]] = {
    **COMPARING,
    **COMPUTING,
    **CONVERTING,
    **USING,
    **ALWAYS,
    "__contains__": operator.contains,
}
