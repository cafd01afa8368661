"""The schemas of tools in the forms that data sets use: OpenAI's, Anthropic's, and xLAM's flat
one."""

from collections.abc import Mapping
from typing import Any

from distil_core.verifiers._call_text import CallError, read_json

_PARAMETER_KEYS = ("parameters", "input_schema", "inputSchema")


def tool_schemas(metadata: str, tools_field: str) -> dict[str, Mapping[str, Any]]:
    """Each tool's parameters as the JSON schema of one object, by the tool's name.

    The field is a list of tools, a JSON text of one, or missing. Raises `CallError`, `KeyError`,
    `AttributeError` or `TypeError` for anything else, and `CallError` where two tools of the same
    name differ.
    """
    tools = read_json(metadata, "it").get(tools_field) or []
    if isinstance(tools, str):
        tools = read_json(tools, "it")
    schemas: dict[str, Mapping[str, Any]] = {}
    for tool in tools:
        function = tool.get("function", tool)
        name = function["name"]
        schema = _object_schema(
            next((function[key] for key in _PARAMETER_KEYS if function.get(key)), {})
        )
        if not isinstance(name, str):
            raise TypeError(f"a tool's name is text, found {name!r:.40}")
        if schemas.setdefault(name, schema) != schema:
            raise CallError(f"two tools have the name {name!r:.80} and differ")
    return schemas


def _object_schema(parameters: Any) -> Mapping[str, Any]:
    """The schema of one object. xLAM leaves out the `properties` around the parameters; a parameter
    may also be called `type` or `properties`, in which case its description is found there."""
    if not isinstance(parameters, Mapping):
        raise TypeError(f"a tool's parameters are an object, found {parameters!r:.40}")
    properties = parameters.get("properties")
    is_schema = isinstance(parameters.get("type"), str) or (
        isinstance(properties, Mapping)
        and all(isinstance(one, Mapping | bool) for one in properties.values())
    )
    if is_schema or not parameters:
        return parameters
    if all(isinstance(one, Mapping) for one in parameters.values()):
        return {"properties": parameters}
    return parameters


def with_defaults(value: Any, schema: Any) -> Any:
    """The value, with its objects completed by the schema's defaults."""
    if not isinstance(schema, Mapping):
        return value
    if isinstance(value, list):
        return [with_defaults(one, schema.get("items")) for one in value]
    properties = schema.get("properties")
    if not isinstance(value, dict) or not isinstance(properties, Mapping):
        return value
    defaults = {
        key: of_key["default"]
        for key, of_key in properties.items()
        if isinstance(of_key, Mapping) and "default" in of_key
    }
    return {
        key: with_defaults(one, properties.get(key)) for key, one in {**defaults, **value}.items()
    }
