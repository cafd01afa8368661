"""Files that are either whole or absent: written under a temporary name, synced, renamed."""

import errno
import glob
import os
import select
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distil_core.errors import DataError

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A temporary path for a file or folder, which replaces `target` only when the block ends
    without an error. What was there before stays until then.

    The path is in its own folder beside `target`: libraries that write it may leave temporary files
    of their own there when killed (safetensors does).

    Raises `DataError` with the free space when the disk is full; nothing is left behind.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target)
    room = target.parent / f".{target.name}.{os.getpid()}.partial"
    remove(room)
    temporary = room / target.name
    try:
        room.mkdir()
        yield temporary
        _sync(temporary)
        _replace(temporary, target)
        _sync_one(target.parent)
    except Exception as error:
        if _is_disk_full(error):
            free_mb = shutil.disk_usage(target.parent).free / 1e6
            raise DataError(
                f"no space left for {target}: {free_mb:.1f} MB free; free some and run again, "
                "finished stages are kept"
            ) from error
        raise
    finally:
        remove(room)


def write_text(target: Path, text: str, private: bool = False) -> None:
    """`text` as UTF-8, atomically. private: for its owner alone to read."""
    write_bytes(target, text.encode(), private)


def write_bytes(target: Path, content: bytes, private: bool = False) -> None:
    """`content` as it is, atomically. private: for its owner alone to read."""
    with atomic_path(target) as temporary:
        if private:
            temporary.touch(PRIVATE_FILE)
        temporary.write_bytes(content)


def private_folder(folder: Path) -> None:
    """Make `folder` where there is none, for its owner alone; one that others can read, left by
    an earlier version or a careless copy, is closed to them. Another user's stays as it is."""
    folder.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)
    _close_to_others(folder)


def private_file(file: Path) -> None:
    """The same of a file, for a library that only writes into one: it is made empty."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(PRIVATE_FILE, exist_ok=True)
    _close_to_others(file)


def why_not_written(error: OSError) -> str | None:
    """What a refusal to write means for the user; None for an error of another kind."""
    if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
        return None
    return (
        f"{error.filename or 'a file'} cannot be written here ({error.strerror}): this command "
        "writes into the workspace. `distil doctor` says what cannot be written, and what to do"
    )


def remove(path: Path) -> None:
    """A file, a folder with all in it, or a link and not what it leads to; there may be none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def link_or_copy(source: str, target: str) -> None:
    """A hard link, or a copy where the file system has none. For files that are never changed in
    place; in the form `shutil.copytree` asks for."""
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copy2(source, target)


def _close_to_others(path: Path) -> None:
    status = path.stat()
    if status.st_mode & 0o077 and status.st_uid == os.geteuid():
        path.chmod(status.st_mode & 0o700)


def remove_leftovers(target: Path) -> None:
    """What killed processes left half-written of `target`: large policies would fill the disk.
    Whoever writes anew does this first; it is for those who only remove."""
    for path in target.parent.glob(f".{glob.escape(target.name)}.*.*"):
        process_id, _, kind = path.name.removeprefix(f".{target.name}.").partition(".")
        if kind in ("partial", "replaced") and process_id.isdigit() and not _lives(int(process_id)):
            remove(path)


def _lives(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _replace(temporary: Path, target: Path) -> None:
    if not target.is_dir():
        os.replace(temporary, target)
        return
    # Moved away first, so that a half-deleted folder never has the target's name.
    replaced = temporary.parent.with_suffix(".replaced")
    remove(replaced)
    os.replace(target, replaced)
    try:
        os.replace(temporary, target)
    except BaseException:
        os.replace(replaced, target)
        raise
    remove(replaced)


def _is_disk_full(error: Exception) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    # safetensors and tokenizers write from Rust, whose errors have the errno only in their text.
    return any(f"(os error {number})" in str(error) for number in (errno.ENOSPC, errno.EDQUOT))


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


@contextmanager
def until_nobody_reads() -> Iterator[None]:
    """In the block, or a function that this decorates: end the program without a word, as others
    end, once whoever reads its output has read enough (`| head`)."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        # What is still to be written would be complained about when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)


def _reader_is_gone() -> bool:
    """Whether it is the output's pipe that broke, and no connection of the program's."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLERR)
    return bool(poll.poll(0))
