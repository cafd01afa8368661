"""`dvc.lock`: what it says each stage read and wrote, and how an entry gets into it.

Reading needs no DVC repository, so that a page or a record can be made from the file alone.
The YAML reader is the one DVC uses (YAML 1.2): the other common one reads `1e-05` as text.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from distil_core.errors import LineageError
from distil_core.files import write_text
from distil_core.lineage.dvc import _internals
from distil_core.pipeline import stage_addresses
from distil_core.source_code import BUILT_IN_FILE
from distil_core.workspace import Workspace

Entry = dict[str, Any]
"""One stage of `dvc.lock`: `cmd`, and where the stage has them `deps`, `params`, `outs`."""

_HEADER = "schema: '2.0'\nstages:\n"
_RESTORE = "restore it with `git checkout dvc.lock`; unrecorded stages then run again"
_NEXT_ENTRY = re.compile(r"^ {0,2}\S", re.MULTILINE)
_OTHER_DIGESTS = {"checksum", "etag", "version_id", "cloud", "files", "dataset", "repo"}
"""What DVC records in place of an MD5 of what lies elsewhere: a stage of the user's own may read
an address of the web."""


@dataclass(frozen=True)
class LockedArtifact:
    """A file or folder recorded in `dvc.lock`. The md5 of a folder ends in `.dir`."""

    path: str
    md5: str
    size_bytes: int


def locked_outputs(workspace: Workspace, address: str) -> dict[str, LockedArtifact]:
    """What the stage wrote when it was last recorded, by path from the workspace's root.

    Raises `LineageError` when the stage was never recorded.
    """
    return artifacts(_entry(read_entries(workspace), address), "outs")


def locked_dependencies(workspace: Workspace, address: str) -> dict[str, LockedArtifact]:
    """What the stage read when it was last recorded; otherwise like `locked_outputs`."""
    return artifacts(_entry(read_entries(workspace), address), "deps")


def entries_until(last: int, entries: dict[str, Entry]) -> dict[str, Entry]:
    """The entries of iterations 0 to `last`. DVC also keeps those of a campaign before a
    restart."""
    addresses = [address for number in range(last + 1) for address in stage_addresses(number)]
    return {address: entries[address] for address in addresses if address in entries}


def lock_digest(workspace: Workspace, iteration: int) -> str:
    """The iteration's digest in the workspace's `dvc.lock`; see `LockDigests`."""
    return LockDigests(read_entries(workspace))[iteration]


class LockDigests:
    """Lock digests by iteration: SHA-256 over the entries of an iteration's stages and of every
    stage that they came from.

    Two iterations with the same digest had the same commands, settings and bytes, all the way back
    to the problems. For callers that need many digests: each entry is serialised only once.
    """

    def __init__(self, entries: dict[str, Entry]):
        self._entries = entries
        self._producers = {
            path: address for address, entry in entries.items() for path in artifacts(entry, "outs")
        }
        self._texts: dict[str, str] = {}
        self._sources: dict[str, list[str]] = {}

    def __getitem__(self, iteration: int) -> str:
        """The iteration's digest. Raises `LineageError` when one of the stages was never
        recorded."""
        included: set[str] = set()
        pending = stage_addresses(iteration)[::-1]
        while pending:
            address = pending.pop()
            if address not in included:
                included.add(address)
                pending += self._read(address)
        canonical = ",".join(self._texts[address] for address in sorted(included))
        return hashlib.sha256(f"{{{canonical}}}".encode()).hexdigest()

    def _read(self, address: str) -> list[str]:
        """Store the entry's text; returns the stages that it came from."""
        if address not in self._sources:
            entry = _as_first_recorded(_entry(self._entries, address))
            text = json.dumps({address: entry}, sort_keys=True, separators=(",", ":"))
            self._texts[address] = text[1:-1]
            paths = artifacts(entry, "deps")
            self._sources[address] = [self._producers[p] for p in paths if p in self._producers]
        return self._sources[address]


def is_recorded(workspace: Workspace, address: str) -> bool:
    """Whether the stage ever ran, in this campaign or in one before it."""
    return address in read_entries(workspace)


def _as_first_recorded(entry: Entry) -> Entry:
    """Entries of before stages depended on their code are the same without it, and those of before
    stages were called as they are now."""
    deps = [item for item in entry.get("deps", []) if item["path"] != BUILT_IN_FILE]
    others = {key: value for key, value in entry.items() if key != "deps"}
    command = entry["cmd"]
    if isinstance(command, str):
        others["cmd"] = command.replace("python -m distil_tasks.", "python -m tasks.", 1)
    return others | ({"deps": deps} if deps else {})


def read_entries(workspace: Workspace) -> dict[str, Entry]:
    """All stages of `dvc.lock` by address; empty when nothing was recorded yet."""
    path = lock_file(workspace)
    try:
        return parse_entries(path.read_bytes().decode(), str(path)) if path.exists() else {}
    except UnicodeDecodeError as error:
        raise LineageError(
            f"{path} is no valid YAML: {error}. Restore it with `git checkout dvc.lock`"
        ) from error


def parse_entries(text: str, name: str) -> dict[str, Entry]:
    """The stages of a `dvc.lock`'s text, which the caller does not change. name: of the file, for
    errors.

    A stage's text is parsed once in a process: all of a long lock at each stage would take more
    time than all else that is done around it.
    """
    from ruamel.yaml.error import YAMLError

    try:
        if _is_plain(text):
            body = text.removeprefix(_HEADER)
            starts = [match.start() for match in _NEXT_ENTRY.finditer(body)]
            ends = [*starts[1:], len(body)]
            entries: dict[str, Entry] = {}
            for start, end in zip(starts, ends, strict=True):
                entries |= _parse_entry(body[start:end])
            return entries
        contents = _yaml(text) or {}
    except YAMLError as error:
        raise LineageError(
            f"{name} is no valid YAML (a merge conflict?): {error}. Repair it, or restore the "
            "last committed one with `git checkout dvc.lock`; unrecorded stages then run again."
        ) from error
    stages = contents.get("stages", {}) if isinstance(contents, dict) else None
    if not isinstance(stages, dict):
        raise LineageError(
            f"{name}: expected a mapping with `schema` and `stages`, found something else; "
            "restore it with `git checkout dvc.lock`"
        )
    return stages


@lru_cache(maxsize=8192)
def _parse_entry(block: str) -> dict[str, Entry]:
    parsed = _yaml(block)
    if not isinstance(parsed, dict) or len(parsed) != 1:
        raise LineageError(f"dvc.lock: expected a stage, found {block[:80]!r}: {_RESTORE}")
    ((address, entry),) = parsed.items()
    try:
        whole = isinstance(entry["cmd"], str | list) and all(
            isinstance(item["path"], str)
            and (_OTHER_DIGESTS & item.keys() or isinstance(item["md5"], str))
            and item.get("size", -1 if "md5" in item else 0) >= 0
            for kind in ("deps", "outs")
            for item in entry.get(kind, [])
        )
    except (TypeError, KeyError, AttributeError) as error:
        raise LineageError(f"dvc.lock: {address} is damaged ({error!r}): {_RESTORE}") from error
    if not whole:
        raise LineageError(f"dvc.lock: {address} is damaged: {_RESTORE}")
    return parsed


def _yaml(text: str) -> Any:
    from ruamel.yaml import YAML

    return YAML(typ="safe").load(text)


def artifacts(entry: Entry, kind: str) -> dict[str, LockedArtifact]:
    """The `deps` or `outs` of an entry by path, without what is stored elsewhere and has no MD5."""
    return {
        item["path"]: LockedArtifact(item["path"], item["md5"], item["size"])
        for item in entry.get(kind, [])
        if "md5" in item
    }


def write_entry(workspace: Workspace, address: str, entry: Entry) -> bool:
    """Put a stage's entry into `dvc.lock`, atomically; returns whether the file changed.

    The result has the bytes that DVC would write. DVC itself parses and rewrites the whole file,
    which takes seconds after some dozen iterations, and does so in place, where a kill would
    truncate it. The caller holds DVC's repository lock.
    """
    path = lock_file(workspace)
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    after = with_entry(before, address, entry)
    if after == before:
        return False
    write_text(path, after)
    return True


def with_entry(text: str, address: str, entry: Entry) -> str:
    """The `text` of a `dvc.lock` with the stage's entry replaced in place, or added at the end."""
    if not text:
        text = _HEADER
    if not _is_plain(text):
        return _with_entry_by_parsing(text, address, entry)
    block = _internals.dumps_yaml({"schema": "2.0", "stages": {address: entry}}).removeprefix(
        _HEADER
    )
    start = text.find(f"\n  {address}:\n") + 1
    if not start:
        return text + block
    following = _NEXT_ENTRY.search(text, start + len(address) + 3)
    end = following.start() if following else len(text)
    return text[:start] + block + text[end:]


def remove_entries(text: str, addresses: Iterable[str]) -> str:
    """The `text` of a `dvc.lock` without these stages, all else as it is."""
    if not _is_plain(text):
        contents = _internals.parse_yaml_for_update(text, "dvc.lock")
        for address in addresses:
            contents["stages"].pop(address, None)
        return _internals.dumps_yaml(contents)
    for address in addresses:
        start = text.find(f"\n  {address}:\n") + 1
        if start:
            following = _NEXT_ENTRY.search(text, start + len(address) + 3)
            text = text[:start] + (text[following.start() :] if following else "")
    return text


def lock_file(workspace: Workspace) -> Path:
    """The lock file that belongs to the workspace's `dvc.yaml`."""
    return workspace.root / "dvc.lock"


def _is_plain(text: str) -> bool:
    """Whether `stages` is all there is besides the schema, in DVC's own layout, and no stage's text
    refers to another's (YAML's anchors)."""
    body = text.removeprefix(_HEADER)
    return (
        body != text
        and text.endswith("\n")
        and re.search(r"^\S|[:-] [&*]\w", body, re.MULTILINE) is None
    )


def _with_entry_by_parsing(text: str, address: str, entry: Entry) -> str:
    contents = _internals.parse_yaml_for_update(text, "dvc.lock")
    contents.setdefault("schema", "2.0")
    contents.setdefault("stages", {}).update({address: entry})
    return _internals.dumps_yaml(contents)


def _entry(entries: dict[str, Entry], address: str) -> Entry:
    if address not in entries:
        raise LineageError(
            f"dvc.lock has no entry of {address}: the stage was never recorded here. "
            f"Run it with `dvc repro {address}` (or fetch the committed dvc.lock)."
        )
    return entries[address]
