"""The settings that choose a component, and the registry each of them chooses from."""

from typing import Any

from distil_core.component_kinds import registry_of
from distil_core.config.models import Component, Params
from distil_core.errors import ConfigError
from distil_core.registry import Registry
from distil_core.validation import validate
from distil_core.yaml_text import parse_yaml

PARTS = {
    "problems.source": "problem source",
    "sample.engine": "engine",
    "consult.verifier": "verifier",
    "tabulate.expert": "expert",
    "train.objective": "objective",
}
"""Dotted paths of the settings that are a `Component`, each with its kind."""


def registries() -> dict[str, Registry[Any, Any]]:
    """The registry of each of `PARTS`. Imports them, and with them torch."""
    return {path: registry_of(kind) for path, kind in PARTS.items()}


def all_registries() -> dict[str, Registry[Any, Any]]:
    """Those of `PARTS`, of settings that hold several components, and of those that may hold
    none."""
    return registries() | {
        "consult.feedback_sources": registry_of("feedback source"),
        "context.environment": registry_of("environment"),
        "context.environment.options.tools": registry_of("tool"),
    }


def part(params: Params, path: str) -> Component:
    """The component at one of `PARTS`."""
    section, _, name = path.partition(".")
    chosen: Component = getattr(getattr(params, section), name)
    return chosen


def part_of_kind(params: Params, kind: str) -> Component | None:
    """The component of that kind; None for a kind that no single setting chooses."""
    paths = [path for path in PARTS if PARTS[path] == kind]
    return part(params, paths[0]) if paths else None


def hold_numbers_as_text(params: Params) -> bool:
    """Whether any part's options hold text that may once have been read as a number."""
    return any(_holds_number_as_text(part(params, path).options) for path in PARTS)


def with_typed_options(params: Params) -> dict[str, Any]:
    """All settings as values, with parts' options as a version took them that read "128" as 128,
    where today's rules refuse them. What no version takes stays as it is."""
    values = params.model_dump(mode="json")
    for path, registry in registries().items():
        section, _, name = path.partition(".")
        chosen = values[section][name]
        chosen["options"] = _typed(registry, chosen["name"], chosen["options"])
    return values


def _typed(registry: Registry[Any, Any], name: str, options: dict[str, Any]) -> dict[str, Any]:
    try:
        options_type = registry.module(name).Options
        read = validate(options_type, options, name, strict=False)
        if read == _strictly(options_type, options, name):
            return options
    except ConfigError:
        return options
    typed: dict[str, Any] = read.model_dump(mode="json", include=options.keys())
    return typed


def _strictly(options_type: Any, options: dict[str, Any], name: str) -> Any:
    try:
        return validate(options_type, options, name)
    except ConfigError:
        return None


def _holds_number_as_text(values: Any) -> bool:
    if isinstance(values, dict | list):
        inner = values.values() if isinstance(values, dict) else values
        return any(map(_holds_number_as_text, inner))
    return isinstance(values, str) and isinstance(_scalar(values), bool | int | float)


def _scalar(text: str) -> Any:
    """What YAML makes of the text without quotes."""
    word = text.strip()
    return parse_yaml(word) if word.isascii() and word.replace(".", "").isalnum() else text
