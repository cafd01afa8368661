"""Single settings of the command line, `--set train.learning_rate=1e-5`, and how they get into a
settings file with its comments kept."""

import io
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import yaml
from ruamel.yaml import YAML

from distil_core.campaign.extends import (
    EXTENDS,
    WHOLE,
    Place,
    Resolved,
    chooses_another,
    is_places,
    merged,
)
from distil_core.errors import ConfigError
from distil_core.yaml_text import parse_yaml

ORIGIN = "--set"
"""What messages name as the origin of such a setting."""

Overlay = dict[Any, Any]
"""Settings by their keys, places in a list by their numbers."""


def parse_overrides(arguments: Sequence[str]) -> Overlay:
    """Arguments such as `train.learning_rate=1e-5`: dotted keys, places in a list by number, and
    values as YAML. Raises `ConfigError` where one is none, or two are about the same setting."""
    overlay: Overlay = {}
    for argument in arguments:
        path, equals, text = argument.partition("=")
        keys = [Place(key) if key.isdigit() else key for key in path.strip().split(".")]
        if not equals or not all(str(key) for key in keys):
            raise ConfigError(
                f"--set {argument}: expected a setting and its value, such as "
                "train.learning_rate=1e-5"
            )
        if keys == [EXTENDS]:
            raise ConfigError(
                f"--set {argument}: `distil restart --params {text}` takes another set of settings"
            )
        try:
            value = parse_yaml(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {argument}: the value is not valid YAML: {error}") from error
        here = overlay
        for key in keys[:-1]:
            here = here.setdefault(key, {})
            if not isinstance(here, dict):
                raise ConfigError(f"--set {argument}: {path} is inside of another --set's value")
        if keys[-1] in here:
            raise ConfigError(f"--set {argument}: {path} is set twice")
        here[keys[-1]] = value
    return overlay


def overridden(resolved: Resolved, overlay: Overlay) -> Resolved:
    """The settings with those of the overlay in place of their own. Raises `ConfigError`."""
    try:
        values = merged(resolved.values, overlay)
    except ConfigError as error:
        raise ConfigError(f"--set: {error}") from error
    return Resolved(values, resolved.origins | _origins(overlay))


def edited(text: str, resolved: Resolved, overlay: Overlay) -> str:
    """A settings file's text with the overlay written into it, its comments kept.

    resolved: what the file means now, for what stands in the file that it extends.
    """
    editor = YAML()
    editor.preserve_quotes = True
    editor.width = 4096
    editor.indent(mapping=2, sequence=4, offset=2)
    document = editor.load(text)
    _edit(document, resolved.values, overlay, "")
    written = io.StringIO()
    editor.dump(document, written)
    return written.getvalue()


def _edit(document: Any, meant: Any, overlay: Overlay, path: str) -> None:
    if isinstance(meant, Mapping) and chooses_another(meant, overlay, path):
        for key in [key for key in document if key not in overlay]:
            del document[key]
        meant = {}
    for key, value in overlay.items():
        under, inner = _inner(meant, key), f"{path}.{key}" if path else str(key)
        if not isinstance(value, dict) or not isinstance(under, dict | list):
            document[key] = _plain(value)
            continue
        if is_places(value) or inner in WHOLE:
            # This is one value: a file that changes a part of the extended file's has all of it.
            if key not in document:
                document[key] = deepcopy(under)
        elif not isinstance(_inner(document, key), dict):
            document[key] = {}
        _edit(document[key], under, value, inner)


def _inner(values: Any, key: Any) -> Any:
    if isinstance(values, list):
        return values[key] if isinstance(key, int) and 0 <= key < len(values) else None
    return values.get(key) if isinstance(values, Mapping) else None


def _plain(value: Any) -> Any:
    return {key: _plain(each) for key, each in value.items()} if isinstance(value, dict) else value


def _origins(overlay: Any, path: str = "") -> dict[str, str]:
    if not isinstance(overlay, dict) or not overlay:
        return {path: ORIGIN}
    return {
        place: origin
        for key, value in overlay.items()
        for place, origin in _origins(value, f"{path}.{key}" if path else str(key)).items()
    }
