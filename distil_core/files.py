"""Files that are either whole or absent: written under a temporary name, synced, renamed."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distil_core.errors import DataError


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A temporary path beside `target` to write a file or folder to; it takes `target`'s place
    only when the block ends without an error. Whatever was there before stays until then.

    Raises `DataError` with the free space when the disk is full; nothing is left behind.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{target.name}.{os.getpid()}.partial"
    _remove(temporary)
    try:
        yield temporary
        _sync(temporary)
        if target.is_dir():
            _remove(target)
        os.replace(temporary, target)
        _sync_one(target.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free_mb = shutil.disk_usage(target.parent).free / 1e6
            raise DataError(
                f"no space left for {target}: {free_mb:.0f} MB free; free some and run again, "
                "finished stages are kept"
            ) from error
        raise
    finally:
        _remove(temporary)


def write_text(target: Path, text: str) -> None:
    """`text` as UTF-8, atomically."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    if path.is_dir():
        for child in sorted(path.rglob("*")):
            if child.is_file():
                _sync_one(child)
    _sync_one(path)


def _sync_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
