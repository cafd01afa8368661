"""What a chat template is told besides the messages: its options, and the tools there are."""

from typing import Any

from distil_core.config.models import ContextParams
from distil_core.errors import ConfigError


def template_options(params: ContextParams) -> dict[str, Any]:
    """context.chat_template_kwargs, and with context.environment.declare_tools the schemas of the
    environment's tools. Raises `ConfigError` where it has none that are known beforehand."""
    environment = params.environment
    if environment is None or not environment.declare_tools:
        return params.chat_template_kwargs
    from distil_core.environments import ENVIRONMENTS

    schemas = ENVIRONMENTS.options(environment.name, environment.options).tool_schemas
    if not schemas:
        raise ConfigError(
            f"context.environment.declare_tools: the environment {environment.name!r} names no "
            "tools beforehand: leave it out, and say in a system turn which there are"
        )
    return {**params.chat_template_kwargs, "tools": [dict(schema) for schema in schemas]}
