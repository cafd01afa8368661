"""A settings file that holds only what differs from another: `extends: default`, or the name of a
preset, or a file (docs/settings.md has the rules).

Mappings are merged, key by key. Everything else, a list and null too, takes the place of what was
there; so does `gate.margins`, which is one value. Where another component is chosen (`name`), or
another `base.kind`, nothing of the former one's is left.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from distil_core.errors import ConfigError
from distil_core.validation import nearest
from distil_core.yaml_text import parse_yaml

EXTENDS = "extends"
DEFAULT_PRESET = "math"
"""What `extends: default` means."""

WHOLE = ("gate.margins",)
"""Mappings that are one value in a file."""

_PRESETS = Path(__file__).parents[1] / "presets"


@dataclass(frozen=True)
class Resolved:
    """Settings with all that they extend merged in.

    values: as YAML gives them. origins: dotted path of each value to the file it stands in, as
    messages name it.
    """

    values: dict[str, Any]
    origins: dict[str, str]

    def explained(self, error: ConfigError, file: str) -> ConfigError:
        """The error with the origin of each setting that it names, where that is not `file`."""
        named = dict.fromkeys(re.findall(r"[a-z_]\w*(?:\.\w+)*", str(error)))
        notes = [
            f"{path} is from {', '.join(found)}"
            for path in named
            if (found := [one for one in self._origins_below(path) if one != file])
            and ("." in path or str(error).startswith(f"{file}: {path}: "))
        ]
        return ConfigError(f"{error} ({'; '.join(notes)})") if notes else error

    def _origins_below(self, path: str) -> list[str]:
        found = [
            origin
            for place, origin in self.origins.items()
            if f"{place}.".startswith(f"{path}.") or f"{path}.".startswith(f"{place}.")
        ]
        return list(dict.fromkeys(found))


def presets() -> dict[str, Path]:
    """The sets of settings that come with DistIL, by the name that `extends` has for them."""
    named = {file.stem: file for file in sorted(_PRESETS.glob("*.yaml"))}
    return {"default": named[DEFAULT_PRESET]} | named


def read_settings(path: Path, shown: str, text: str | None = None) -> Resolved:
    """The settings of a file. shown: how messages name it. text: what it holds, where that is not
    written yet. Raises `ConfigError`."""
    return _resolve(path, shown, (), text)


def read_mapping(path: Path, shown: str, text: str | None = None) -> dict[str, Any]:
    """What stands in the file itself. Raises `ConfigError` where that is no mapping."""
    try:
        values = parse_yaml(path.read_text(encoding="utf-8") if text is None else text)
    except FileNotFoundError as error:
        raise ConfigError(
            f"no {path.name} in {path.parent}: run in a DistIL workspace, which `distil init` makes"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        # Text has no name for PyYAML.
        located = str(error).replace('"<unicode string>"', shown)
        raise ConfigError(f"{shown} is not valid YAML: {located}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{shown}: expected a mapping of settings, found {values!r}")
    return values


def _resolve(path: Path, shown: str, below: tuple[Path, ...], text: str | None = None) -> Resolved:
    if path.resolve() in below:
        chain = " → ".join(file.name for file in (*below, path))
        raise ConfigError(f"{shown}: extends itself ({chain}): leave one `extends` out")
    own = read_mapping(path, shown, text)
    if EXTENDS not in own:
        return Resolved(own, dict(_origins(own, shown)))
    extended, name = extended_file(own.pop(EXTENDS), path, shown)
    under = _resolve(extended, name, (*below, path.resolve()))
    values = merged(under.values, own, whole=WHOLE)
    origins = under.origins | dict(_origins(own, shown))
    return Resolved(values, {place: origins[place] for place, _ in _origins(values, "")})


def extended_file(name: Any, path: Path, shown: str) -> tuple[Path, str]:
    """The file that `extends: name` in `path` means, and how messages name it. A name with a slash
    or `.yaml` in it is a file's, from the folder of `path`."""
    known = presets()
    if not isinstance(name, str) or not name:
        raise ConfigError(
            f"{shown}: extends: expected the name of a preset ({', '.join(known)}) or a file such "
            f"as base.yaml, found {name!r}"
        )
    if name in known:
        return known[name], f"preset {name}"
    if "/" in name or name.endswith((".yaml", ".yml")):
        file = path.parent / name
        if not file.is_file():
            beside = [each.name for each in sorted(file.parent.glob("*.yaml"))]
            there = nearest(file.name, beside) if beside else ""
            raise ConfigError(f"{shown}: extends: no file {name} in {path.parent}{there}")
        return file, name
    raise ConfigError(
        f"{shown}: extends: no preset {name!r}{nearest(name, list(known))}. A file's name ends in "
        ".yaml"
    )


class Place(int):
    """A key of settings that are merged into a list: the place of the one that is meant."""


def merged(under: Any, over: Any, path: str = "", whole: Collection[str] = ()) -> Any:
    """`over` on top of `under`. whole: paths of mappings that are one value."""
    if isinstance(under, list) and is_places(over):
        for place in over:
            _require_place(under, place, path)
        return [
            merged(value, over[place], f"{path}.{place}", whole) if place in over else value
            for place, value in enumerate(under)
        ]
    if is_places(over):
        raise ConfigError(f"{path} is no list: expected a setting's name, found {min(over)}")
    if not isinstance(under, Mapping) or not isinstance(over, Mapping):
        return over
    if path in whole or chooses_another(under, over, path):
        return dict(over)
    values = dict(under)
    for key, value in over.items():
        inner = f"{path}.{key}" if path else str(key)
        values[key] = merged(under.get(key), value, inner, whole)
    if not path:
        _drop_what_went_with_the_source(under, over, values)
    return values


def chooses_another(under: Mapping[str, Any], over: Mapping[str, Any], path: str) -> bool:
    """Whether `over` is about another component, or another kind of base, than `under`."""
    keys = {*under, *over}
    chooser = "name" if keys <= {"name", "options"} else "kind" if path == "base" else ""
    return chooser in under and chooser in over and under[chooser] != over[chooser]


def is_places(values: Any) -> bool:
    """Whether it is a mapping of places in a list."""
    return isinstance(values, Mapping) and any(isinstance(key, Place) for key in values)


def _drop_what_went_with_the_source(
    under: Mapping[str, Any], over: Mapping[str, Any], values: dict[str, Any]
) -> None:
    """`problems.generalisation` has options of `problems.source`: another source has others."""
    before, after = under.get("problems"), over.get("problems")
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return
    source, another = before.get("source"), after.get("source")
    if not isinstance(source, Mapping) or not isinstance(another, Mapping):
        return
    if chooses_another(source, another, "problems.source") and "generalisation" not in after:
        values["problems"] = dict(values["problems"])
        values["problems"].pop("generalisation", None)


def _require_place(values: list[Any], place: int, path: str) -> None:
    if not 0 <= place < len(values):
        raise ConfigError(f"{path} has the places 0 to {len(values) - 1}, found {place}")


def _origins(values: Any, origin: str, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(values, Mapping) and values:
        for key, value in values.items():
            yield from _origins(value, origin, f"{path}.{key}" if path else str(key))
    elif path:
        yield path, origin
