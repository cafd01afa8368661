"""Every kind of component, and the registry that its names are found in."""

from importlib import import_module
from typing import Any

from distil_core.errors import ConfigError
from distil_core.registry import Registry

_REGISTRIES = {
    "engine": ("distil_core.engines", "ENGINES"),
    "environment": ("distil_core.environments", "ENVIRONMENTS"),
    "expert": ("distil_core.experts", "EXPERTS"),
    "feedback source": ("distil_core.feedback.sources", "SOURCES"),
    "objective": ("distil_core.objectives", "OBJECTIVES"),
    "problem source": ("distil_core.problems", "PROBLEM_SOURCES"),
    "program": ("distil_core.experts.programs", "PROGRAMS"),
    "row format": ("distil_core.problems.row_formats", "ROW_FORMATS"),
    "tool": ("distil_core.tools", "TOOLS"),
    "verifier": ("distil_core.verifiers", "VERIFIERS"),
}
"""Imported when asked for: what needs no objective need not wait for torch."""

KINDS = tuple(_REGISTRIES)


def registry_of(kind: str) -> Registry[Any, Any]:
    """The registry of one of `KINDS`; `ConfigError` for another."""
    if kind not in _REGISTRIES:
        raise ConfigError(f"no components of kind {kind!r} are known")
    module, name = _REGISTRIES[kind]
    registry: Registry[Any, Any] = getattr(import_module(module), name)
    return registry
