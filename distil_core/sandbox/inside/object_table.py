"""In the program's process: objects that are no plain data, held for the tests under a number."""

import builtins
import types
from typing import Any

from .operations import OPERATIONS, USING
from .values import NotPlainDataError, decode, encode

_BUILTINS = dict(vars(builtins))


class ObjectTable:
    """The objects of one program that its tests know of."""

    def __init__(self, names: dict[str, Any]):
        self._names = names
        self._objects: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._copies: dict[int, Any] = {}

    def encode_object(self, value: Any) -> Any:
        """`{"o": [class, number, special methods, global classes that it is of, exception]}`.
        exception: see `exception_classes`, of a class of exceptions; null of anything else."""
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
        """What the tests hand back: an object of ours, or a value of a class of theirs."""
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
        """Of an object of the tests', of the program's own class of that name where it has one."""
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
        """What a request is about. Raises `NameError` where the program does not define it."""
        if "object" in request:
            return self.resolve("p", request["object"])
        name = request["name"]
        if name not in self._names:
            raise NameError(f"the program defines no {name!r}")
        return self._names[name]

    def look_up(self, name: str) -> dict[str, Any]:
        """The program's global of this name. A module is none of the program's own."""
        found = self._names.get(name, self)
        if found is self or isinstance(found, types.ModuleType):
            return {"value": None, "absent": True}
        return {"value": encode(found, self.encode_object)}

    def operate(self, request: dict[str, Any]) -> dict[str, Any]:
        """The operation's result, or that an iterator is at its end. Raises what it raises."""
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
        """For the tests, which may expect this exception."""
        arguments = encode(list(error.args), self.encode_object)
        return {"classes": exception_classes(type(error)), "arguments": arguments}


def exception_classes(kind: type[BaseException]) -> list[list[str]]:
    """Module and name of the class and its bases, up to the first that Python has built in."""
    classes = []
    for one in kind.__mro__:
        classes.append([str(one.__module__)[:100], one.__name__[:100]])
        if _BUILTINS.get(one.__name__) is one:
            classes[-1][0] = "builtins"
            break
    return classes
