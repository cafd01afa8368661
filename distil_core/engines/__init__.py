"""Engines that sample and score with a policy. One module each, found by name."""

from pathlib import Path

from distil_core.components import ComponentPlace
from distil_core.config.models import Component, ComputeParams
from distil_core.engines.base import Engine, EngineOptions
from distil_core.registry import Registry

ENGINES: Registry[EngineOptions, Engine] = Registry(
    ComponentPlace("engine", "distil_core.engines", "distil.engines"),
    EngineOptions,
    Engine,
    {"policy_dir": "Path", "compute": "ComputeParams"},
)


def build_engine(component: Component, policy_dir: Path, compute: ComputeParams) -> Engine:
    """The engine that `component` names, with the policy in `policy_dir` loaded."""
    return ENGINES.build(component.name, component.options, policy_dir=policy_dir, compute=compute)
