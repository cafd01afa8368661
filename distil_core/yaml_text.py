"""YAML as this project reads and writes it: version 1.2's scalars, as DVC reads them, and nothing
that is silently lost.

PyYAML follows version 1.1, where `1e-3` is text, `no` is false, `1:30` is 90 and `010` is 8, and
where the second of two equal keys wins. Here `1e-3` is a number, the others are what they look
like, and a key that stands twice is an error.
"""

import re
from collections.abc import Hashable
from typing import Any

import yaml

# The C loader, if PyYAML has it, is ten times as fast, and every stage reads its settings.
_BaseLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_MAX_DEPTH = 64

_SCALARS = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9][0-9_]*|0o[0-7_]+|0x[0-9a-fA-F_]+|0b[01_]+", "-+0123456789"),
    "float": (
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    "null": (r"~|null|Null|NULL|", "~nN\0"),
    "merge": (r"<<", "<"),
}


def _resolvers() -> dict[str | None, list[tuple[str, re.Pattern[str]]]]:
    table: dict[str | None, list[tuple[str, re.Pattern[str]]]] = {}
    for name, (pattern, first_characters) in _SCALARS.items():
        for character in first_characters:
            key = "" if character == "\0" else character
            entry = (f"tag:yaml.org,2002:{name}", re.compile(f"(?:{pattern})$"))
            table.setdefault(key, []).append(entry)
    return table


class _Loader(_BaseLoader):  # type: ignore[misc]
    yaml_implicit_resolvers = _resolvers()

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[Any, Any] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge" or not key_node.value:
                continue
            key = str(key_node.value)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f"the key {key!r} stands twice in one mapping, first in line {seen[key]}",
                    key_node.start_mark,
                )
            seen[key] = key_node.start_mark.line + 1
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return mapping


def _whole_number(loader: Any, node: Any) -> int:
    text = loader.construct_scalar(node).replace("_", "")
    return int(text, 0) if text[:2] in ("0o", "0x", "0b") else int(text)


_Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)


class _Dumper(yaml.SafeDumper):
    """Quotes text that would be read as something else by either version of YAML."""


_Dumper.yaml_implicit_resolvers = {
    key: [*yaml.SafeDumper.yaml_implicit_resolvers.get(key, []), *_resolvers().get(key, [])]
    for key in {*yaml.SafeDumper.yaml_implicit_resolvers, *_resolvers()}
}


def parse_yaml(text: str) -> Any:
    """A document's values. Raises `yaml.YAMLError` where it is none, a key stands twice in it, or
    something in it holds itself."""
    try:
        values = yaml.load(text, Loader=_Loader)
    except RecursionError as error:
        raise yaml.YAMLError("nested too deeply") from error
    except ValueError as error:
        # Such as a number of five thousand digits, or `!!float no`.
        raise yaml.YAMLError(str(error)) from error
    _require_shallow(values)
    return values


def _require_shallow(values: Any, depth: int = 0) -> None:
    if depth > _MAX_DEPTH:
        raise yaml.YAMLError(
            "nested too deeply, or an alias (*) stands inside of its own anchor (&)"
        )
    if isinstance(values, dict | list):
        for each in values.values() if isinstance(values, dict) else values:
            _require_shallow(each, depth + 1)


def dump_yaml(values: dict[str, Any]) -> str:
    """YAML in the order given, the form of all files this project writes."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
