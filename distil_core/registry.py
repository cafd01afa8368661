"""Components found by name: one module each, in one package, adding one touches no other.

A component module defines `Options` (a frozen pydantic model of its own settings) and `build`,
whose arguments are the package's contract. The module's file name is the component's name, so
a registry needs no list to maintain, and nothing is imported before it is asked for.
"""

import importlib
import pkgutil
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from distil_core.credentials import secrets_in, shown
from distil_core.errors import ConfigError


class ComponentOptions(BaseModel):
    """Base of every component's `Options`: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Registry:
    """The components of one package, by name.

    Modules whose name starts with an underscore, and those named in `contract_modules`, belong
    to the package's contract and are no components.
    """

    def __init__(self, package: str, kind: str, contract_modules: tuple[str, ...] = ("base",)):
        self.package = package
        self.kind = kind
        self._contract_modules = contract_modules

    def names(self) -> list[str]:
        """Names of all components, sorted."""
        package = importlib.import_module(self.package)
        return sorted(
            module.name
            for module in pkgutil.iter_modules(package.__path__)
            if not module.name.startswith("_") and module.name not in self._contract_modules
        )

    def module(self, name: str) -> ModuleType:
        """The component's module; `ConfigError` lists the known names when there is none."""
        if name not in self.names():
            raise ConfigError(
                f"unknown {self.kind} {name!r}; known: {', '.join(self.names())}. "
                f"A new one is a module of the same name in {self.package}."
            )
        return importlib.import_module(f"{self.package}.{name}")

    def options(self, name: str, values: dict[str, Any]) -> ComponentOptions:
        """`values` as the component's typed options; `ConfigError` says which key is wrong."""
        options_type: type[ComponentOptions] = self.module(name).Options
        where = f"options of {self.kind} {name!r}"
        try:
            options = options_type.model_validate(values)
        except ValidationError as error:
            raise ConfigError(f"{where}: {describe(error)}") from error
        refuse_secrets(values, where)
        return options

    def build(self, name: str, options: dict[str, Any], **arguments: Any) -> Any:
        """The component itself: its module's `build(options, **arguments)`."""
        return self.module(name).build(self.options(name, options), **arguments)


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


def describe(error: ValidationError) -> str:
    """A pydantic error as one line per problem: where, what was expected, what was found."""
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        found = shown(str(problem["loc"][-1]) if problem["loc"] else "", problem["input"])
        if problem["type"] == "value_error":
            # A check of our own: it says itself what was found.
            text = str(problem["ctx"]["error"])
        elif problem["type"] == "missing":
            text = problem["msg"]
        elif problem["type"] == "extra_forbidden":
            text = f"no such setting (found {found})"
        else:
            text = f"{problem['msg']} (found {found})"
        lines.append(f"{where}: {text}" if where else text)
    return "; ".join(lines)
