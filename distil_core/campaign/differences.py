"""The keys in which two sets of settings differ, in a form for people."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_MAX_SHOWN = 8
_MAX_CHARS = 60
ABSENT = object()
"""In place of a setting that is not there."""


@dataclass(frozen=True)
class Change:
    """One setting. path: dotted, places in a list by number. before, after: short texts."""

    path: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.path}: {self.before} → {self.after}"


def changes(before: Any, after: Any, path: str = "") -> list[Change]:
    """Each setting that differs in `after`, ordered by path."""
    return list(_changes(before, after, path))


def described(found: list[Change]) -> str:
    """The first few changes in one line, and how many more there are."""
    text = ", ".join(str(change) for change in found[:_MAX_SHOWN])
    more = len(found) - _MAX_SHOWN
    return f"{text} and {more} more" if more > 0 else text


def _changes(before: Any, after: Any, path: str) -> Iterator[Change]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted(before.keys() | after.keys(), key=str):
            inner = f"{path}.{key}" if path else str(key)
            yield from _changes(before.get(key, ABSENT), after.get(key, ABSENT), inner)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for place, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _changes(one, other, f"{path}[{place}]")
    elif before != after:
        yield Change(path, _shown(before), _shown(after))


def _shown(value: Any) -> str:
    if value is ABSENT:
        return "(not set)"
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    return text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]}…"
