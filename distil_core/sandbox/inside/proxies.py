"""In the tests' process: proxies for objects that the program's process holds.

An object of the program could claim anything about itself. A comparison or sum with plain data,
which would also tell the program what is expected, is therefore left to the program only where the
tests name the object's class, as in `assert make(1) == Point(1, 2)`. Of any other object a test
sees the parts: its items when iterated, its attributes, the results of its methods.
"""

import builtins
import sys
from collections.abc import Callable
from typing import Any

from . import operations
from .values import NotPlainDataError, as_builtin, decode, encode

TESTS_MODULE = "tests"
_LABEL_CHARACTERS = 60
_READABLE_SPECIAL = ("__name__", "__qualname__", "__dict__", "__annotations__", "__wrapped__")
# A test runner takes these as its own, whoever raised them.
_FOREIGN_MODULES = ("unittest", "asyncio", "concurrent", "_pytest", "pytest")


class CandidateStopped(BaseException):
    """The program can answer no more. Not an `Exception`, so that no test catches it."""


class CandidateError(Exception):
    """Raised in place of an exception of the program that would mean something else in the test's
    own code (such as the end of an iteration), and for a result that cannot be read."""


class CandidateExit(BaseException):
    """Like `CandidateError`, for what is no `Exception`."""


class Unsupported(BaseException):
    """The test passes the program something that cannot be sent: a function, an object with
    methods."""


class Proxy:
    """Stands for an object of the program. named: whether the tests name its class."""

    def __init__(self, program: "Program", target: dict[str, Any], label: str, named: bool):
        for name, value in (
            ("_program", program),
            ("_target", target),
            ("_label", label[:_LABEL_CHARACTERS]),
            ("_named", named),
        ):
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in _READABLE_SPECIAL:
            raise AttributeError(f"{self._label} has no attribute {name!r} that a test may see")
        return self._program.operate(self, "__getattr__", (name,), label=f"{self._label}.{name}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("__"):
            raise AttributeError(f"attribute {name!r} of {self._label} cannot be set by a test")
        self._program.operate(self, "__setattr__", (name, value))

    def __delattr__(self, name: str) -> None:
        self._program.operate(self, "__delattr__", (name,))

    def __str__(self) -> str:
        return _exactly(str, self._program.operate(self, "__str__"))

    def __repr__(self) -> str:
        return _exactly(str, self._program.operate(self, "__repr__"))

    def __instancecheck__(self, value: Any) -> bool:
        if isinstance(value, (Proxy, Mirror)):
            return _exactly(bool, self._program.operate(self, "__instancecheck__", (value,)))
        return False

    def __hash__(self) -> int:
        if not self._named:
            return id(self)
        return _exactly(int, self._program.operate(self, "__hash__"))

    def __contains__(self, value: Any) -> bool:
        if self._named or isinstance(value, Proxy):
            return _exactly(bool, self._program.operate(self, "__contains__", (value,)))
        return any(item is value or item == value for item in iter(self))


class Mirror:
    """A value of a builtin type's subclass: the builtin value, and the program's object for
    attributes that the builtin type lacks."""

    _behind: Proxy

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(self._behind, name)
        return _refreshing(self, found) if isinstance(found, Proxy) and callable(found) else found


def _refreshing(mirror: Any, method: Any) -> Callable[..., Any]:
    """The method, after which a mirrored list, set or dict is updated from the program."""

    def call(*arguments: Any, **keywords: Any) -> Any:
        result: Any = method(*arguments, **keywords)
        behind = mirror._behind
        if isinstance(mirror, (list, set, dict)):
            content = behind._program.operate(behind, "plain")
            mirror.clear()
            (mirror.extend if isinstance(mirror, list) else mirror.update)(content)
        return result

    return call


def _exactly(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise CandidateError(f"the program gave a {type(value).__name__} for a {kind.__name__}")
    return value


def _two_operands(name: str) -> Callable[[Proxy, Any], Any]:
    def operation(self: Proxy, other: Any) -> Any:
        if name in ("__eq__", "__ne__") and self is other:
            return name == "__eq__"
        if not self._named and not isinstance(other, Proxy):
            return NotImplemented
        return self._program.operate(self, name, (other,))

    return operation


def _converted(name: str) -> Callable[..., Any]:
    def operation(self: Proxy, *arguments: Any) -> Any:
        if not self._named:
            raise TypeError(f"{self._label} is no plain data, on which a test could use {name}")
        return self._program.operate(self, name, arguments)

    return operation


def _used(name: str) -> Callable[..., Any]:
    def operation(self: Proxy, *arguments: Any, **keywords: Any) -> Any:
        given = () if name == "__exit__" else arguments
        label = f"{self._label}(..)" if name == "__call__" else ""
        value = self._program.operate(self, name, given, keywords, label)
        return _exactly(bool, value) if name in ("__bool__", "__exit__") else value

    return operation


for _name in (*operations.COMPARING, *operations.COMPUTING):
    setattr(Proxy, _name, _two_operands(_name))
for _name in operations.CONVERTING:
    if _name != "__hash__":
        setattr(Proxy, _name, _converted(_name))
_USED = {name: _used(name) for name in operations.USING}


class Program:
    """The program as its tests see it. ask: sends an operation and returns the answer. test_names:
    all names in the tests' own code."""

    def __init__(self, ask: Callable[[dict[str, Any], str], dict[str, Any]], test_names: set[str]):
        self._ask = ask
        self._test_names = test_names
        self._classes: dict[tuple[str, ...], type[Proxy]] = {}
        self._proxies: dict[int, Any] = {}
        self._exceptions: dict[tuple[tuple[str, str], ...], type[BaseException]] = {}
        self._raised: list[BaseException] = []

    def function(self, name: str) -> Proxy:
        """A stand-in for the program's global of this name, which is looked up when it is used."""
        return self._class_with(("__call__",))(self, {"name": name}, name, True)

    def look_up(self, name: str) -> Any:
        """The program's global of this name. Raises `KeyError` where there is none."""
        answer = self._ask({"look_up": name}, "")
        if answer.get("absent"):
            raise KeyError(name)
        return self._result(answer, name)

    def has_raised(self, error: BaseException) -> bool:
        """Whether the program raised `error`, rather than the test's own code."""
        return any(error is one for one in self._raised)

    def operate(
        self,
        proxy: Proxy,
        operation: str,
        arguments: tuple[Any, ...] = (),
        keywords: dict[str, Any] | None = None,
        label: str = "",
    ) -> Any:
        """The result of the operation. Raises what the operation raised."""
        request = {
            "operation": operation,
            "arguments": encode(list(arguments), hand_over := _HandOver()),
            "keywords": encode(keywords or {}, hand_over),
            **proxy._target,
        }
        answer = self._ask(request, proxy._label)
        if answer.get("exhausted"):
            raise StopIteration
        return self._result(answer, label)

    def _result(self, answer: dict[str, Any], label: str) -> Any:
        if "raised" in answer:
            error = self._exception(answer["raised"])
            self._raised.append(error)
            raise error
        try:
            return decode(answer["value"], self._resolve(label))
        except NotPlainDataError as error:
            raise CandidateError(f"it returned {error}") from None

    def _resolve(self, label: str) -> Callable[[str, Any], Any]:
        def resolve(tag: str, content: Any) -> Any:
            try:
                if tag == "o":
                    return self._proxy(label, *content)
                plain, behind = content
                return _mirror(decode(plain, resolve), decode(behind, resolve))
            except (TypeError, ValueError, LookupError, AttributeError) as error:
                raise NotPlainDataError(f"no object of the program ({error})") from None

        return resolve

    def _proxy(
        self, label: str, kind: str, number: int, special: list[str], named: list[str], classes: Any
    ) -> Any:
        if classes is not None:
            return self._exception_class(classes)
        if number not in self._proxies:
            is_named = bool(self._test_names.intersection(named))
            made = self._class_with(tuple(sorted(special)))
            self._proxies[number] = made(self, {"object": number}, label or kind, is_named)
        found = self._proxies[number]
        return _awaitable(found) if kind == "coroutine" else found

    def _class_with(self, special: tuple[str, ...]) -> type[Proxy]:
        """A proxy class with exactly these special methods, those of the object."""
        if special not in self._classes:
            methods = {name: _USED[name] for name in special if name in _USED}
            self._classes[special] = type("Proxy", (Proxy,), methods)
        return self._classes[special]

    def _exception(self, raised: dict[str, Any]) -> BaseException:
        try:
            kind = self._exception_class(raised["classes"])
            arguments = decode(raised["arguments"], self._resolve(""))
        except (NotPlainDataError, TypeError, ValueError, LookupError):
            return CandidateError(str(raised.get("message")))
        try:
            return kind(*arguments)
        except Exception:
            error = kind.__new__(kind)
            error.args = tuple(arguments)
            return error

    def _exception_class(self, classes: list[list[str]]) -> type[BaseException]:
        """The exception class with this name and these bases: the library's own where it is one,
        else one made here, which a test catches by the same name or by a base."""
        key = tuple((module, name) for module, name in classes)
        if key not in self._exceptions:
            module, name = key[0]
            if len(key) == 1:
                made = _builtin_exception(name)
            else:
                base = self._exception_class([list(one) for one in key[1:]])
                made = _library_exception(module, name, base) or type(name, (base,), {})
            self._exceptions[key] = made
        return self._exceptions[key]


def _mirror(value: Any, behind: Any) -> Any:
    kind = type(value)
    made = type(kind.__name__, (Mirror, kind), {})
    mirror = made(value) if not hasattr(kind, "_fields") else made(*value)
    mirror._behind = behind
    return mirror


async def _awaitable(proxy: Proxy) -> Any:
    return proxy._program.operate(proxy, "await")


class _HandOver:
    """Encodes what one request sends to the program: the program's own objects as their numbers,
    values of builtin types' subclasses as builtin values, and a copy of objects that have only
    attributes."""

    def __init__(self) -> None:
        self._copied: list[Any] = []

    def __call__(self, value: Any) -> Any:
        if isinstance(value, Mirror):
            value = value._behind
        elif as_builtin(value) is not value:
            return None
        if not isinstance(value, Proxy):
            return self._copy(value)
        target = value._target
        return {"p": target["object"] if "object" in target else target["name"]}

    def _copy(self, value: Any) -> Any:
        name = type(value).__name__
        number = next((i for i, one in enumerate(self._copied) if one is value), None)
        if number is not None:
            return {"x": [name, number, None]}
        attributes = _attributes(value)
        if attributes is None:
            raise Unsupported(f"an object of class {name}, which is more than data")
        self._copied.append(value)
        return {"x": [name, len(self._copied) - 1, encode(attributes, self)]}


def _attributes(value: Any) -> dict[str, Any] | None:
    """All attributes of an object of one of the tests' classes. None where the class has behaviour
    of its own, as the program's process has none of the tests' code."""
    attributes: dict[str, Any] = {}
    for kind in reversed(type(value).__mro__[:-1]):
        own = {name: one for name, one in vars(kind).items() if not name.startswith("__")}
        has_code = any(callable(one) or hasattr(type(one), "__get__") for one in own.values())
        if kind.__module__ != TESTS_MODULE or has_code or "__slots__" in vars(kind):
            return None
        attributes |= own
    return attributes | vars(value) if hasattr(value, "__dict__") else None


def _builtin_exception(name: str) -> type[BaseException]:
    found = getattr(builtins, name, None)
    if not isinstance(found, type) or not issubclass(found, BaseException):
        raise ValueError(f"no exception of Python's own: {name!r:.40}")
    # Python's loops would take these for the end of the test's own iteration.
    if issubclass(found, (StopIteration, StopAsyncIteration)):
        return CandidateError
    if issubclass(found, GeneratorExit):
        return CandidateExit
    return found


def _library_exception(
    module: str, name: str, base: type[BaseException]
) -> type[BaseException] | None:
    if module.partition(".")[0] in _FOREIGN_MODULES or module.partition(".")[0] not in (
        sys.stdlib_module_names
    ):
        return None
    found = getattr(sys.modules.get(module), name, None)
    is_one = isinstance(found, type) and issubclass(found, base)
    return found if is_one else None
