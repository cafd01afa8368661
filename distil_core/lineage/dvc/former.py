"""What a longer campaign before a restart left: stages of iterations that are no more.

They are taken out of `dvc.lock` and `data/`, so that what is there belongs to the campaign. Nothing
is lost: the former `dvc.lock`, the settings, and each file that DVC's cache does not hold are kept
in a folder of `.distil/former`.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from distil_core.files import private_folder, remove, write_bytes, write_text
from distil_core.lineage.dvc.config import cache_folder, content_url
from distil_core.lineage.dvc.digest import content_md5
from distil_core.lineage.dvc.lock import artifacts, lock_file, read_entries, remove_entries
from distil_core.lineage.dvc.session import open_repo
from distil_core.pipeline import STAGES, last_address
from distil_core.workspace import Workspace

_DIGITS = re.compile(r"\d{3}")


@dataclass(frozen=True)
class FormerIterations:
    """iterations: those set aside. kept: the folder with what is not elsewhere. num_moved: files
    and folders in it that DVC's cache lacks."""

    iterations: list[int]
    kept: Path
    num_moved: int


def frozen_files(workspace: Workspace) -> dict[str, bytes]:
    """The list of iterations and their frozen settings by path, to be kept from before a restart,
    which replaces them."""
    files = [workspace.iterations_file, *_numbered(workspace.frozen_params_file(0).parent).values()]
    return {workspace.relative(file): file.read_bytes() for file in files if file.is_file()}


def set_aside(
    workspace: Workspace, last: int, frozen: Mapping[str, bytes]
) -> FormerIterations | None:
    """Set aside what belongs to iterations after `last`; None where there is nothing.

    frozen: as `frozen_files` read it before the restart. Raises `LineageError` where another
    process works in the workspace, with nothing changed.
    """
    found = _left_over(workspace, last)
    if not found:
        return None
    with open_repo(workspace, last_address(last)):
        lock = lock_file(workspace)
        former = lock.read_bytes() if lock.exists() else b""
        digest = hashlib.blake2b(former + json.dumps(found).encode(), digest_size=4).hexdigest()
        kept = workspace.scratch_dir / "former" / digest
        private_folder(workspace.scratch_dir)
        for name, content in {**frozen, "dvc.lock": former}.items():
            write_bytes(kept / name, content)
        recorded = {
            path: output.md5
            for entry in read_entries(workspace).values()
            for path, output in artifacts(entry, "outs").items()
        }
        cache = cache_folder(workspace)
        num_moved = sum(
            _set_aside_files(workspace, number, recorded, cache, kept) for number in found
        )
        addresses = _addresses(workspace, last)
        if addresses:
            write_text(lock, remove_entries(former.decode(), addresses))
    return FormerIterations(found, kept, num_moved)


def _left_over(workspace: Workspace, last: int) -> list[int]:
    numbers = {int(address.partition("@")[2]) for address in _addresses(workspace, last)}
    for folder in (workspace.iteration_dir(0).parent, workspace.scores_file(0).parent):
        numbers |= _numbered(folder).keys()
    return sorted(number for number in numbers if number > last)


def _addresses(workspace: Workspace, last: int) -> list[str]:
    """Our stages of later iterations that `dvc.lock` has."""
    names = {stage.name for stage in STAGES if stage.per_iteration}
    found = []
    for address in read_entries(workspace):
        name, _, key = address.partition("@")
        if name in names and _DIGITS.fullmatch(key) and int(key) > last:
            found.append(address)
    return found


def _numbered(folder: Path) -> dict[int, Path]:
    """What lies in a folder by the number of an iteration that is its name."""
    if not folder.is_dir():
        return {}
    files = sorted(folder.iterdir())
    return {int(file.stem): file for file in files if _DIGITS.fullmatch(file.stem)}


def _set_aside_files(
    workspace: Workspace, number: int, recorded: Mapping[str, str], cache: Path, kept: Path
) -> int:
    """Remove what DVC's cache holds and move all else; returns how many were moved."""
    folder = workspace.iteration_dir(number)
    num_moved = 0
    for item in sorted(folder.iterdir()) if folder.is_dir() else []:
        md5 = recorded.get(workspace.relative(item))
        if md5 and all(file.is_file() for file in _cached(cache, md5)) and content_md5(item) == md5:
            remove(item)
        else:
            target = kept / workspace.relative(item)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(item, target)
            num_moved += 1
    if folder.is_dir():
        folder.rmdir()
    scores = workspace.scores_file(number)
    if scores.exists():
        write_bytes(kept / workspace.relative(scores), scores.read_bytes())
        scores.unlink()
    return num_moved


def _cached(cache: Path, md5: str) -> Iterator[Path]:
    """The files in the cache that content of this digest is made of."""
    first = Path(content_url(str(cache), md5))
    yield first
    if md5.endswith(".dir") and first.is_file():
        for entry in json.loads(first.read_text(encoding="utf-8")):
            yield Path(content_url(str(cache), entry["md5"]))
