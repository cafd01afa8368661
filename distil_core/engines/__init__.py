"""Engines that sample and score with a policy. One module each, found by name."""

from pathlib import Path

from distil_core.config.models import Component, ComputeParams
from distil_core.engines.base import Engine
from distil_core.registry import Registry

ENGINES = Registry("distil_core.engines", kind="engine")


def build_engine(component: Component, policy_dir: Path, compute: ComputeParams) -> Engine:
    """The engine that `component` names, holding the policy in `policy_dir`."""
    engine: Engine = ENGINES.build(
        component.name, component.options, policy_dir=policy_dir, compute=compute
    )
    return engine
