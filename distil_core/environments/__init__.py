"""Environments: each answers a policy's turns with observations. One module each, by name."""

from distil_core.components import ComponentPlace
from distil_core.config.models import EnvironmentParams
from distil_core.environments.base import Environment, EnvironmentOptions
from distil_core.registry import Registry

ENVIRONMENTS: Registry[EnvironmentOptions, Environment] = Registry(
    ComponentPlace(
        "environment",
        "distil_core.environments",
        "distil.environments",
        contract_modules=("base", "pool"),
    ),
    EnvironmentOptions,
    Environment,
    {},
)


def build_environment(params: EnvironmentParams) -> Environment:
    """The environment that `context.environment` names, for one rollout after another."""
    return ENVIRONMENTS.build(params.name, params.options)
