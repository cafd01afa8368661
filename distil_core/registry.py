"""Components by name: their options typed, what they build typed, and both checked.

A component is a module with `Options` (a frozen pydantic model of its own settings, made from the
base of its kind) and `build`, which makes the component from them. docs/components.md shows how to
write one; `distil check-component` tries it out.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import ModuleType
from typing import Any, Generic, TypeVar

from distil_core.components import ComponentPlace, ResolvedComponent
from distil_core.credentials import secrets_in
from distil_core.errors import ConfigError
from distil_core.validation import StrictModel, validate


class ComponentOptions(StrictModel):
    """Base of every component's `Options`. Each is documented by the docstring below it."""

    @property
    def components_used(self) -> tuple[tuple[str, str], ...]:
        """Kind and name of the components that this one builds in its turn, such as ('engine',
        'transformers'): their code decides what it does as its own does."""
        return ()


OptionsT = TypeVar("OptionsT", bound=ComponentOptions)
BuiltT = TypeVar("BuiltT")


class Registry(Generic[OptionsT, BuiltT]):
    """The components of one kind: modules of our package, entry points of installed packages, and
    any module by its dotted path (`ComponentPlace` says what a name stands for).

    options_base: what each component's `Options` is made from. built: the class or protocol of
    what `build` returns. arguments: what `build` is given besides the options, name to type as
    shown in messages.
    """

    def __init__(
        self,
        place: ComponentPlace,
        options_base: type[OptionsT],
        built: type[Any],
        arguments: Mapping[str, str],
    ):
        self.place = place
        self.options_base = options_base
        self.built = built
        self.arguments = dict(arguments)
        self._checked = lru_cache(maxsize=None)(self._check)

    @property
    def kind(self) -> str:
        """Such as 'objective'."""
        return self.place.kind

    @property
    def signature(self) -> str:
        """How `build` is written."""
        named = "".join(f", {name}: {type_}" for name, type_ in self.arguments.items())
        return f"def build(options: Options{named}) -> {self.built.__name__}"

    def names(self) -> list[str]:
        """All short names, the built-in ones and those of installed packages, sorted."""
        return self.place.names()

    def resolve(self, name: str) -> ResolvedComponent:
        """What `name` stands for, its module not imported. Raises `ConfigError` for nothing."""
        return self.place.resolve(name)

    def module(self, name: str) -> ModuleType:
        """The component's module. `ConfigError` says which name is unknown, or which part of the
        contract the module does not keep."""
        return self._checked(self.resolve(name))

    def options(self, name: str, values: Mapping[str, Any]) -> OptionsT:
        """`values` as the component's typed options; `ConfigError` says which key is wrong."""
        options_type: type[OptionsT] = self.module(name).Options
        where = f"options of {self.kind} {name!r}"
        options = validate(options_type, values, where)
        refuse_secrets(values, where)
        return options

    def build(self, name: str, options: Mapping[str, Any], **arguments: Any) -> BuiltT:
        """The component itself: its module's `build(options, **arguments)`. `ConfigError` where
        that is not what components of this kind are."""
        build: Callable[..., BuiltT] = self.module(name).build
        built = build(self.options(name, options), **arguments)
        if not isinstance(built, self.built):
            raise ConfigError(
                f"{self.resolve(name).described()}: build returned {type(built).__name__}, which "
                f"is no {self.built.__name__}{self._lacking(built)}: expected `{self.signature}`"
            )
        return built

    def _lacking(self, built: object) -> str:
        members = sorted(name for name in _members(self.built) if not hasattr(built, name))
        return f" (it has no {', '.join(members)})" if members else ""

    def _check(self, component: ResolvedComponent) -> ModuleType:
        """The module, which keeps the contract. Kept, for each is asked for many times."""
        module = component.module()
        problems = [*self._wrong_options(module), *self._wrong_build(module)]
        if problems:
            raise ConfigError(
                f"{component.described()} is no {self.kind}: {'; '.join(problems)} "
                "(docs/components.md; `distil check-component "
                f"{component.name}` tries it out)"
            )
        return module

    def _wrong_options(self, module: ModuleType) -> list[str]:
        base = f"{self.options_base.__module__}.{self.options_base.__name__}"
        expected = f"`class Options({self.options_base.__name__})`, a subclass of {base}"
        found = vars(module).get("Options")
        if found is None:
            return [f"it has no Options; expected {expected}"]
        if not isinstance(found, type) or not issubclass(found, self.options_base):
            return [f"its Options is {_shown(found)}; expected {expected}"]
        return [
            f"its Options sets {key} to {found.model_config.get(key)!r}; expected {value!r}, so "
            f"that {reason}"
            for key, value, reason in (
                ("extra", "forbid", "a misspelt option is an error"),
                ("frozen", True, "what was recorded is what ran"),
            )
            if found.model_config.get(key) != value
        ]

    def _wrong_build(self, module: ModuleType) -> list[str]:
        found = vars(module).get("build")
        if found is None:
            return [f"it has no build; expected `{self.signature}`"]
        if not callable(found):
            return [f"its build is {_shown(found)}; expected `{self.signature}`"]
        try:
            signature = inspect.signature(found)
            signature.bind(None, **dict.fromkeys(self.arguments))
        except TypeError as error:
            return [
                f"its build{signature} does not take what it is given ({error}); expected "
                f"`{self.signature}`"
            ]
        return []


def _members(protocol: type[Any]) -> set[str]:
    members = {name for base in protocol.__mro__ for name in vars(base).get("__annotations__", {})}
    return members | {
        name
        for base in protocol.__mro__
        if base.__module__.startswith("distil_core.")
        for name, value in vars(base).items()
        if callable(value) and not name.startswith("_")
    }


def _shown(found: object) -> str:
    if isinstance(found, type):
        bases = ", ".join(base.__name__ for base in found.__bases__)
        return f"the class {found.__name__}({bases})"
    return f"{type(found).__name__} {found!r:.60}"


def refuse_secrets(values: Any, where: str) -> None:
    """Raise `ConfigError`, which names the places alone, where settings hold a credential."""
    places = list(secrets_in(values))
    if places:
        raise ConfigError(
            f"{where}: {', '.join(places)} holds a credential, and settings are recorded (git, "
            "MLflow, Prefect, reports). Put it into an environment variable and name that one "
            "where an option asks for it (such as api_key_variable); revoke it where this file "
            "has been shared"
        )
