"""Pin the files that the settings name: their digests, written into `params.yaml`.

A file outside the campaign is named by path and SHA-256, so that an iteration never silently reads
another one. Nobody should have to copy 64 digits for that.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distil_core.campaign.extends import read_settings
from distil_core.campaign.params_file import prepare, replace
from distil_core.errors import ConfigError
from distil_core.workspace import Workspace

_PLACES = (
    "problems.source.options",
    "problems.generalisation.options",
    "base.warm_start",
)
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class PinnedPath:
    """A file that the settings name. setting: where its digest stands, such as
    `problems.source.options.train.sha256`. before: the digest that stands there; '' for none. now:
    that of the file."""

    setting: str
    path: str
    before: str
    now: str


def pin_files(workspace: Workspace) -> list[PinnedPath]:
    """Write the digest of each file that the settings name into `params.yaml`, its comments
    kept. The former file is kept as by `distil restart --set`.

    Raises `ConfigError`, with nothing changed, where a file cannot be read, the settings name none,
    or they are wrong in another way.
    """
    file = workspace.params_file
    settings = read_settings(file, file.name).values
    pinned = [
        PinnedPath(f"{place}.sha256", path, before, _digest(workspace, path))
        for place, path, before in _named_files(settings)
    ]
    if not pinned:
        raise ConfigError(
            "params.yaml names no file to pin: a problem source such as jsonl or parquet has "
            "`train: {path: ..}` in problems.source.options, and base.path_or_id may be a GGUF file"
        )
    overrides = [f'{each.setting}="{each.now}"' for each in pinned if each.now != each.before]
    if overrides:
        _, content = prepare(workspace, None, overrides)
        assert content is not None, "there is something to set"
        replace(workspace, content)
    return pinned


def unpinned_files(workspace: Workspace) -> list[str]:
    """Paths of files that the settings name with no digest yet."""
    file = workspace.params_file
    return unpinned(read_settings(file, file.name).values)


def unpinned(settings: Mapping[str, Any]) -> list[str]:
    """The same of settings at hand."""
    return [path for _, path, before in _named_files(settings) if not before]


def _named_files(settings: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Place, path and digest of each."""
    base = settings.get("base")
    path = base.get("path_or_id") if isinstance(base, Mapping) else None
    if isinstance(base, Mapping) and str(path).lower().endswith(".gguf"):
        yield "base", str(path), str(base.get("sha256") or "")
    for place in _PLACES:
        options: Any = settings
        for key in place.split("."):
            options = options.get(key) if isinstance(options, Mapping) else None
        yield from _files_in(options, place)


def _files_in(value: Any, place: str) -> Iterator[tuple[str, str, str]]:
    if not isinstance(value, Mapping):
        return
    path = value.get("path")
    if isinstance(path, str) and value.keys() <= {"path", "sha256"}:
        yield place, path, str(value.get("sha256") or "")
        return
    for key, inner in value.items():
        yield from _files_in(inner, f"{place}.{key}")


def _digest(workspace: Workspace, path: str) -> str:
    digest = hashlib.sha256()
    try:
        with (workspace.root / Path(path).expanduser()).open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise ConfigError(f"cannot read {path}, which params.yaml names: {error}") from error
    return digest.hexdigest()
