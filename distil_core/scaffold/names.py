"""Which names a new component, and the package around it, may have."""

import importlib.util
import keyword
import re
import sys
from pathlib import Path

from distil_core.component_kinds import registry_of
from distil_core.errors import ConfigError

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_OF_TEMPLATES = ("prompt", "attempt", "verdict")
"""Fields that every template has already; a feedback source's name is a field too."""


def require_usable_name(kind: str, name: str) -> None:
    """Raise `ConfigError`, with what to do, unless a package and a component of the kind may have
    this name: it is a module's, nothing else is found by it, and nothing is hidden by it."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot name a {kind}: expected the name of a Python module, up to 40 "
            f"lower-case letters, digits and _ with a letter first{_suggestion(name)}"
        )
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise ConfigError(f"{name!r} is a word of Python's own: choose another name")
    if name in sys.stdlib_module_names or name in ("tests", *_reserved(kind)):
        why = "a field of every template" if name in _reserved(kind) else "a module's name already"
        raise ConfigError(f"{name!r} is {why}: choose another name, such as my_{name}")
    if name in registry_of(kind).names():
        known = registry_of(kind).resolve(name)
        whose = "DistIL's own" if known.is_built_in else f"that of {known.distribution}"
        raise ConfigError(
            f"there is a {kind} {name!r} already, {whose} ({known.source_file}): choose another "
            f"name, such as my_{name}"
        )
    if found := importlib.util.find_spec(name):
        where = found.origin or ", ".join(found.submodule_search_locations or ())
        raise ConfigError(
            f"there is a module {name!r} already ({where}), and a package of that name would hide "
            f"it: choose another name, such as my_{name}"
        )


def require_new_folder(folder: Path) -> None:
    """Raise `ConfigError` where there is something already, or no folder to make it in."""
    if folder.exists() or folder.is_symlink():
        raise ConfigError(
            f"{folder} is there already, and nothing in it is touched: choose another --directory "
            "or another name, or move it away"
        )
    above = folder.parent
    while not above.exists():
        above = above.parent
    if not above.is_dir():
        raise ConfigError(f"{above} is a file, no folder to write {folder} below")


def _suggestion(name: str) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    plain = re.sub(r"\W+", "_", words).strip("_").lower()
    return f", such as {plain}" if _NAME.fullmatch(plain) else ""


def _reserved(kind: str) -> tuple[str, ...]:
    return _OF_TEMPLATES if kind == "feedback source" else ()
