"""docs/settings.md: every setting with its type, range, default and meaning."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from distil_core.campaign.parts import all_registries
from distil_core.campaign.reference.schema import component_names
from distil_core.config.models import CheckLimits, Component, Params
from distil_core.registry import Registry
from distil_core.validation import members

_INTRO = Path(__file__).with_name("intro.md")
_KINDS = {
    "problems.source": "Problem sources",
    "sample.engine": "Engines",
    "consult.verifier": "Verifiers",
    "tabulate.expert": "Experts",
    "train.objective": "Objectives",
    "consult.feedback_sources": "Sources of feedback",
    "context.environment": "Environments",
    "context.environment.options.tools": "Tools",
}
_HEAD = "| setting | type | default | meaning |\n|---|---|---|---|\n"


def settings_page(built_in: bool = False) -> str:
    """The page, in Markdown. built_in: leave out components that installed packages add."""
    parts = [_INTRO.read_text("utf-8"), "## All settings\n", *_sections(Params, "")]
    for path, registry in all_registries().items():
        parts += _components(path, registry, built_in)
    return "\n".join(parts).rstrip() + "\n"


def _sections(model: type[BaseModel], path: str) -> Iterator[str]:
    """A table of the model's settings, then one for each model inside of it; a single one for a
    model that several of them have."""
    yield _table(model)
    inside: dict[type[BaseModel], list[str]] = {}
    for name, field in model.model_fields.items():
        for section in _models(field):
            inside.setdefault(section, []).append(f"{path}.{name}" if path else name)
    for section, places in inside.items():
        tag = section.model_fields.get("kind")
        kind = f" (`kind: {tag.annotation.__args__[0]}`)" if tag and tag.annotation else ""
        title = f"each of {path}" if len(places) > 1 else places[0]
        yield f"### {title}{kind}\n\n{_doc(section)}\n"
        yield from _sections(section, places[0])


def _components(path: str, registry: Registry[Any, Any], built_in: bool) -> Iterator[str]:
    yield f"## {_KINDS[path]}\n"
    own = "a component of your own ([components.md](components.md))"
    yield f"What `{path}` may name, besides {own}.\n"
    for name in component_names(registry, built_in):
        module = registry.module(name)
        yield f"### {registry.kind} `{name}`\n\n{_first_paragraph(module.__doc__)}\n"
        own = _doc(module.Options)
        yield f"{own}\n" if module.Options.model_fields else "It has no options.\n"
        yield from (_options(module.Options) if module.Options.model_fields else ())


def _options(model: type[BaseModel], path: str = "") -> Iterator[str]:
    yield _table(model)
    inside: dict[type[BaseModel], list[str]] = {}
    for name, field in model.model_fields.items():
        for section in _models(field):
            inside.setdefault(section, []).append(f"{path}.{name}" if path else name)
    for section, places in inside.items():
        yield f"{', '.join(f'`{place}`' for place in places)}: {_doc(section)}\n"
        yield from _options(section, places[0])


def _table(model: type[BaseModel]) -> str:
    schema = model.model_json_schema(mode="validation")
    rows = []
    for name, field in model.model_fields.items():
        if name == "earlier_num_prompts":
            continue  # Written by `distil extend`.
        meaning = " ".join((field.description or "").split())
        type_ = _type(schema["properties"][name])
        cells = (f"`{name}`", type_, _default(field), meaning)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
    return _HEAD + "".join(rows)


def _models(field: FieldInfo) -> list[type[BaseModel]]:
    """The models in a setting's type, those that lists of it hold too, components aside."""
    annotation: Any = field.annotation
    inside = [model for part in getattr(annotation, "__args__", ()) for model in members(part)]
    found = dict.fromkeys([*members(annotation), *inside])
    return [model for model in found if model is not Component]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, CheckLimits):
        return ", ".join(
            f"`{name}: {_written(limit)}`" for name, limit in value if limit is not None
        )
    if isinstance(value, BaseModel):
        return "as below"
    return f"`{_written(value)}`"


def _written(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_written, value))}]"
    return repr(value) if isinstance(value, dict) else f"{value}" if value != "" else '""'


def _type(schema: dict[str, Any]) -> str:
    """A setting's type and range in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return "component" if name == Component.__name__ else "section"
    if alternatives := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(_type(each) for each in alternatives))
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return ", ".join(f"`{_written(value)}`" for value in values)
    kind = str(schema.get("type", "anything"))
    if kind == "array":
        items = schema.get("items", {})
        return f"list of {_type(items)}" if items else "list"
    if kind == "object":
        values = schema.get("additionalProperties")
        inner = _type(values) if isinstance(values, dict) else "values"
        return f"names with {inner}"
    words = {"integer": "whole number", "number": "number", "string": "text", "null": "null"}
    words["boolean"] = "`true`, `false`"
    text = "date" if schema.get("format") == "date" else words.get(kind, kind)
    return " ".join([text, *_range(schema)])


def _range(schema: dict[str, Any]) -> Iterator[str]:
    signs = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
    bounds = [f"{sign} {schema[key]}" for key, sign in signs.items() if key in schema]
    if bounds:
        yield ", ".join(bounds)
    if "pattern" in schema:
        yield f"like `{schema['pattern']}`"


def _doc(model: type[BaseModel]) -> str:
    return inspect.cleandoc(model.__doc__ or "")


def _first_paragraph(text: str | None) -> str:
    return " ".join(inspect.cleandoc(text or "").partition("\n\n")[0].split())
