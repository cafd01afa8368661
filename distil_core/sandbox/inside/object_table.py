"""In the program's process: objects that are not plain data, kept under numbers for the tests."""

import builtins
import types
from typing import Any

from .operations import OPERATIONS, USING
from .values import NotPlainDataError, decode, encode

_BUILTINS = dict(vars(builtins))


class ObjectTable:
    """The objects of one program that its tests have a number for."""

    def __init__(self, names: dict[str, Any]):
        self._names = names
        self._objects: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._copies: dict[int, Any] = {}

    def encode_object(self, value: Any) -> Any:
        """Add the object and return its tree: `{"o": [class name, number, special methods, names of
        the program's global classes in its class's bases, exception classes]}`. The last is what
        `exception_classes` returns for a class of exceptions, and null for anything else."""
        kind = type(value)
        number = self._numbers.setdefault(id(value), len(self._objects))
        if number == len(self._objects):
            self._objects.append(value)
        special = [name for name in USING if hasattr(kind, name)]
        named = [one.__name__ for one in kind.__mro__ if self._names.get(one.__name__) is one]
        is_exception = isinstance(value, type) and issubclass(value, BaseException)
        classes = exception_classes(value) if is_exception else None
        return {"o": [kind.__name__, number, special, named, classes]}

    def resolve(self, tag: str, content: Any) -> Any:
        """A value that the tests sent: an object of this table, or a value of one of the tests'
        classes."""
        if tag == "m":
            plain, held = content
            return decode(plain, self.resolve) if held is None else decode(held, self.resolve)
        if tag == "x":
            return self._copy(*content)
        if tag == "p" and type(content) is str:
            return self._names[content]
        if tag == "p" and type(content) is int and 0 <= content < len(self._objects):
            return self._objects[content]
        raise NotPlainDataError(f"no object that is held: {repr(content)[:40]}")

    def _copy(self, name: str, number: int, attributes: Any) -> Any:
        """A copy of an object of the tests, in the program's class of the same name where there is
        one."""
        if attributes is None:
            return self._copies[number]
        kind = self._names.get(name)
        if not isinstance(kind, type):
            kind = type(name, (), {})
        copy: Any = object.__new__(kind)
        self._copies[number] = copy
        copy.__dict__.update(decode(attributes, self.resolve))
        return copy

    def target(self, request: dict[str, Any]) -> Any:
        """The object that a request is about. Raises `NameError` where the program does not define
        it."""
        if "object" in request:
            return self.resolve("p", request["object"])
        name = request["name"]
        if name not in self._names:
            raise NameError(f"the program defines no {name!r}")
        return self._names[name]

    def look_up(self, name: str) -> dict[str, Any]:
        """The program's global of this name. An imported module counts as absent."""
        found = self._names.get(name, self)
        if found is self or isinstance(found, types.ModuleType):
            return {"value": None, "absent": True}
        return {"value": encode(found, self.encode_object)}

    def operate(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do the operation and return the encoded result, or that an iterator is exhausted. Raises
        what the operation raises."""
        target, operation = self.target(request), request["operation"]
        self._copies.clear()
        arguments = decode(request["arguments"], self.resolve)
        keywords = decode(request["keywords"], self.resolve)
        try:
            value = OPERATIONS[operation](target, *arguments, **keywords)
        except StopIteration:
            if operation != "__next__":
                raise
            return {"value": None, "exhausted": True}
        return {"value": encode(value, self.encode_object)}

    def raised(self, error: BaseException) -> dict[str, Any]:
        """The exception as the tests need it, which may expect this one."""
        arguments = encode(list(error.args), self.encode_object)
        return {"classes": exception_classes(type(error)), "arguments": arguments}


def exception_classes(kind: type[BaseException]) -> list[list[str]]:
    """Module and name of the class and its bases, up to and including the first builtin one."""
    classes = []
    for one in kind.__mro__:
        classes.append([str(one.__module__)[:100], one.__name__[:100]])
        if _BUILTINS.get(one.__name__) is one:
            classes[-1][0] = "builtins"
            break
    return classes
