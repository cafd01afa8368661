"""Frozen settings of earlier versions in today's form. They are changed at reading alone: the files
stay as they are, and with them what DVC compares with.

`schema_version` counts the forms of frozen settings. Who renames, moves or requires a setting
raises `SCHEMA_VERSION` and adds the step from the form before to `_STEPS`. A step says what its
version meant by what it left out, so that nothing finished is another thing afterwards.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from distil_core.config.models import SCHEMA_VERSION
from distil_core.errors import ConfigError

Values = dict[str, Any]


def schema_version(values: Values, where: str) -> int:
    """The form that frozen settings are in; 0 for those of before forms were counted. Raises
    `ConfigError` for one that this version does not know yet."""
    found = values.get("schema_version", 0)
    if isinstance(found, bool) or not isinstance(found, int) or found < 0:
        raise ConfigError(f"{where}: schema_version: expected a whole number, found {found!r}")
    if found > SCHEMA_VERSION:
        raise ConfigError(
            f"{where}: schema_version is {found}, and this version of DistIL knows forms up to "
            f"{SCHEMA_VERSION}: a newer one froze these settings. Go on with that one"
        )
    return found


def migrated(values: Values, where: str) -> Values:
    """The settings in today's form; `values` stay as they are."""
    found = schema_version(values, where)
    values = deepcopy(values)
    for step in _STEPS[found:]:
        step(values)
    return values | {"schema_version": SCHEMA_VERSION}


def _from_before_forms_were_counted(values: Values) -> None:
    """Files of several versions, told apart by what they hold."""
    train, base, evaluate = (_section(values, name) for name in ("train", "base", "evaluate"))
    for section in (train, base):
        if "checkpoint_every_s" in section:
            seconds = section.pop("checkpoint_every_s")
            values.setdefault("resume", {"checkpoint_every_s": seconds})
    if "packing" in train:
        train.setdefault("layout", "packed" if train.pop("packing") else "padded")
    if "gate" not in (values.get("stage_versions") or {"gate": 0}):
        # There was no gate: each policy followed its parent, whatever its scores.
        values.setdefault("gate", _NO_GATE)
        evaluate.setdefault("num_expert_samples", 0)


_NO_GATE = {
    "margins": {"pass_at_1": 1.0},
    "on_regression": "continue",
    "alarms": {"min_entropy_ratio": None, "max_length_ratio": None, "pass_at_n_fell": False},
}


def _section(values: Values, name: str) -> Values:
    found = values.get(name)
    return found if isinstance(found, dict) else {}


_STEPS: tuple[Callable[[Values], None], ...] = (_from_before_forms_were_counted,)
assert len(_STEPS) == SCHEMA_VERSION
