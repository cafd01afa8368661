"""What every component's contract asks for, of whatever kind: to be found, typed and explained."""

import inspect
import json
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from types import ModuleType
from typing import Any, Generic, Self

from pydantic import ValidationError

from distil_core.errors import ConfigError
from distil_core.registry import BuiltT, ComponentOptions, OptionsT, Registry
from distil_core.testing.checks import Check, require


class Subject(Generic[OptionsT, BuiltT]):
    """A component under test. component: its name as in settings, or its module."""

    def __init__(
        self,
        registry: Registry[OptionsT, BuiltT],
        component: str | ModuleType,
        options: Mapping[str, Any] | None,
    ):
        self.registry = registry
        self.name = component if isinstance(component, str) else _name_of(registry, component)
        self.values = dict(options or {})

    @cached_property
    def options(self) -> OptionsT:
        """Its options, typed."""
        return self.registry.options(self.name, self.values)

    def build(self, **arguments: Any) -> BuiltT:
        """A new one."""
        return self.registry.build(self.name, self.values, **arguments)

    def check(self, name: str, body: Callable[[Self], None], remedy: str) -> Check:
        """A check of this component. body: raises where it fails. remedy: what to do then."""
        return Check(name, remedy, partial(body, self))


def contract_checks(subject: Subject[Any, Any]) -> list[Check]:
    """The first checks of any component."""
    registry = subject.registry
    return [
        Check(
            "the module is found, with Options and build",
            f"write `class Options({registry.options_base.__name__})` and `{registry.signature}`",
            partial(_is_found, subject),
            is_needed=True,
        ),
        Check(
            "the options given are its options",
            "give the options that it needs (--options), or correct them",
            partial(_takes_options, subject),
            is_needed=True,
        ),
        Check(
            "options are frozen, and an unknown one is refused",
            "leave extra='forbid' and frozen=True of the base as they are",
            partial(_options_are_strict, subject),
        ),
        Check(
            "options are the same after they were written down and read again",
            "use types that JSON can hold, and make no validator change what it is given twice",
            partial(_options_survive_freezing, subject),
        ),
        Check(
            "each option is explained",
            "write a docstring below the option, or name it in the docstring of Options",
            partial(_options_are_documented, subject),
        ),
    ]


def _name_of(registry: Registry[Any, Any], module: ModuleType) -> str:
    return module.__name__.removeprefix(f"{registry.place.package}.")


def _is_found(subject: Subject[Any, Any]) -> None:
    subject.registry.module(subject.name)


def _takes_options(subject: Subject[Any, Any]) -> None:
    require(subject.options is not None, "no options")


def _options_are_strict(subject: Subject[Any, Any]) -> None:
    options = subject.options
    try:
        subject.registry.options(subject.name, {**subject.values, "an_option_that_nobody_has": 1})
    except ConfigError:
        pass
    else:
        require(False, "an option that it does not have was taken without a word")
    for name in type(options).model_fields:
        try:
            setattr(options, name, getattr(options, name))
        except ValidationError:
            continue
        require(False, f"option {name} can be changed after it was read")


def _options_survive_freezing(subject: Subject[Any, Any]) -> None:
    options = subject.options
    dumped = json.loads(json.dumps(options.model_dump(mode="json")))
    again = subject.registry.options(subject.name, dumped)
    require(again == options, f"{options!r} became {again!r}")


def _options_are_documented(subject: Subject[Any, Any]) -> None:
    options_type = type(subject.options)
    texts = [
        inspect.cleandoc(vars(base).get("__doc__") or "")
        for base in options_type.__mro__
        if issubclass(base, ComponentOptions) and base is not ComponentOptions
    ]
    missing = [
        name
        for name, field in options_type.model_fields.items()
        if not field.description and not any(name in text for text in texts)
    ]
    require(not missing, f"nothing is said about {', '.join(missing)}")
