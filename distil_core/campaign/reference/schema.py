"""The JSON schema of `params.yaml`, for completion and checks in an editor."""

import json
from copy import deepcopy
from typing import Any

from pydantic.json_schema import models_json_schema

from distil_core.campaign.extends import EXTENDS, presets
from distil_core.campaign.parts import all_registries
from distil_core.config.models import Component, Params
from distil_core.registry import Registry

Schema = dict[str, Any]

_REFERENCE = "#/$defs/"


def params_schema(built_in: bool = False) -> Schema:
    """Of a whole settings file, and of one that extends another and so needs hold only what
    differs. built_in: leave out components that installed packages add."""
    options = _options(built_in)
    models = [Params, *(model for named in options.values() for model in named.values())]
    references, collected = models_json_schema(
        [(model, "validation") for model in models], ref_template=_REFERENCE + "{model}"
    )
    definitions: Schema = {
        name: _plain(definition) for name, definition in collected["$defs"].items()
    }
    name_of = {
        model: reference["$ref"].removeprefix(_REFERENCE)
        for (model, _), reference in references.items()
    }
    for definition in definitions.values():
        _choose_components(definition)
    for kind, named in options.items():
        definitions[kind] = _choice({name: name_of[model] for name, model in named.items()}, kind)
    definitions.pop(Component.__name__, None)
    params = definitions[name_of[Params]]
    # It is written by `distil extend`.
    sample = definitions["SampleParams"]["properties"]
    del sample["earlier_num_prompts"]
    params["properties"] = {EXTENDS: _extends(), **params["properties"]}
    parts = {f"{name}_that_differs": _partial(each) for name, each in definitions.items()}
    root = name_of[Params]
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "DistIL settings (params.yaml)",
        "if": {"required": [EXTENDS]},
        "then": {"$ref": f"{_REFERENCE}{root}_that_differs"},
        "else": {"$ref": f"{_REFERENCE}{root}"},
        "$defs": definitions | parts,
    }


def schema_text(built_in: bool = False) -> str:
    """The schema as the text of a file."""
    return json.dumps(params_schema(built_in), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def component_names(registry: Registry[Any, Any], built_in: bool) -> list[str]:
    """Short names of a registry's components."""
    return registry.place.built_in_names() if built_in else registry.names()


def _options(built_in: bool) -> dict[str, dict[str, Any]]:
    """Each kind of component, by the last name of its setting: names and their `Options`."""
    return {
        path.rpartition(".")[2]: {
            name: registry.module(name).Options for name in component_names(registry, built_in)
        }
        for path, registry in all_registries().items()
    }


def _choose_components(definition: Schema) -> None:
    """Point settings that hold a component at the choice of their kind. A setting is named after
    the kind, here as in the options of experts."""
    for name, field in definition.get("properties", {}).items():
        text = json.dumps(field)
        chosen = text.replace(f'"{_REFERENCE}{Component.__name__}"', f'"{_REFERENCE}{name}"')
        definition["properties"][name] = json.loads(chosen)


def _choice(definition_names: dict[str, str], kind: str) -> Schema:
    """One of the known components with its own options, or another with options of its own."""
    branches = [_known(name, definition) for name, definition in definition_names.items()]
    another = {
        "properties": {
            "name": {
                "type": "string",
                "not": {"enum": list(definition_names)},
                "description": "A component of your own: a dotted path, or an entry point.",
            },
            "options": {"type": "object"},
        },
        "required": ["name"],
        "additionalProperties": False,
    }
    return {"type": "object", "description": f"A {kind}.", "oneOf": [*branches, another]}


def _known(name: str, definition: str) -> Schema:
    return {
        "properties": {"name": {"const": name}, "options": {"$ref": _REFERENCE + definition}},
        "required": ["name"],
        "additionalProperties": False,
    }


def _extends() -> Schema:
    return {
        "description": "What this file differs from: a preset, or a file such as base.yaml. "
        "It holds only what differs then.",
        "anyOf": [{"enum": list(presets())}, {"type": "string", "pattern": r"/|\.ya?ml$"}],
    }


def _partial(definition: Schema) -> Schema:
    """The same with nothing required, and every choice of a component also without its name."""
    partial = _without_required(deepcopy(definition))
    branches = partial.get("oneOf", [])
    if branches and all("name" in branch.get("properties", {}) for branch in branches):
        for branch in branches:
            branch["required"] = ["name"]
        branches.append({"not": {"required": ["name"]}, "properties": {"options": {}}})
    renamed: Schema = _to_parts(partial)
    return renamed


def _to_parts(values: Any) -> Any:
    """References lead to definitions of what differs, too."""
    if isinstance(values, dict):
        return {
            key: f"{value}_that_differs" if key == "$ref" else _to_parts(value)
            for key, value in values.items()
        }
    return [_to_parts(each) for each in values] if isinstance(values, list) else values


def _without_required(values: Any) -> Any:
    if isinstance(values, dict):
        return {
            key: _without_required(value)
            for key, value in values.items()
            if not (key == "required" and isinstance(value, list))
        }
    return [_without_required(each) for each in values] if isinstance(values, list) else values


def _plain(definition: Any) -> Any:
    """Without what pydantic adds for its own sake, descriptions in one line."""
    if isinstance(definition, list):
        return [_plain(each) for each in definition]
    if not isinstance(definition, dict):
        return definition
    kept = {}
    for key, value in definition.items():
        if key == "discriminator" or (key == "title" and isinstance(value, str)):
            continue
        if key == "description" and isinstance(value, str):
            kept[key] = " ".join(value.split())
        else:
            kept[key] = _plain(value)
    return kept
