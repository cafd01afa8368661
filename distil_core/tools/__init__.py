"""Tools: each answers calls that a policy writes between its turns. One module each, by name."""

from distil_core.components import ComponentPlace
from distil_core.registry import Registry
from distil_core.tools.base import Tool, ToolOptions

TOOLS: Registry[ToolOptions, Tool] = Registry(
    ComponentPlace(
        "tool",
        "distil_core.tools",
        "distil.tools",
        contract_modules=("base", "reading", "schemas"),
    ),
    ToolOptions,
    Tool,
    {},
)
