"""The frozen settings of an iteration as written, in whatever version of the form."""

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from distil_core.errors import LineageError
from distil_core.workspace import Workspace


def read_frozen(workspace: Workspace, path: Path) -> dict[str, Any]:
    """Settings of an iteration, as its frozen file has them; the caller does not change them."""
    from ruamel.yaml.error import YAMLError

    name = workspace.relative(path)
    try:
        # As written, not validated anew: an old iteration must stay recordable after a
        # setting was added or a component changed its options.
        values = _parse(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, YAMLError) as error:
        raise LineageError(
            f"{name}: cannot read the settings of this iteration ({error}); restore the file "
            f"with `git checkout {name}`"
        ) from error
    if not isinstance(values, dict) or "campaign" not in values:
        raise LineageError(
            f"{name}: expected a mapping of settings with `campaign`, found {values!r:.80}; "
            f"restore the file with `git checkout {name}`"
        )
    return values


@lru_cache(maxsize=1024)
def _parse(text: str) -> Any:
    """Once in a process: each record reads the settings of all iterations before it."""
    from ruamel.yaml import YAML

    return YAML(typ="safe").load(text)


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted keys; values other than text and mappings become JSON."""
    flat: dict[str, str] = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value and all(_is_plain_key(k) for k in value):
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return flat


def _is_plain_key(key: object) -> bool:
    return isinstance(key, str) and re.fullmatch(r"[A-Za-z0-9_-]+", key) is not None


def lookup(settings: Any, dotted_key: str) -> Any:
    """The value of a dotted key; None where there is none."""
    for part in dotted_key.split("."):
        settings = settings.get(part) if isinstance(settings, dict) else None
    return settings
