"""Files outside the campaign, pinned by digest, and their rows: JSON Lines and Parquet."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from distil_core.errors import DataError
from distil_core.problems._rows import LocatedRow
from distil_core.registry import ComponentOptions

_MAX_LINE_BYTES = 64 * 2**20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class PinnedFile(ComponentOptions):
    """A file whose content is pinned."""

    path: str
    """From the workspace's root, or absolute."""
    sha256: str = Field(pattern=r"^([0-9a-f]{64})?$")
    """Of the file's bytes; empty, and the stage stops and says what it is."""


def pinned_content(file: PinnedFile) -> bytes:
    """The file's bytes. Raises `DataError` where it cannot be read, or differs from the pinned
    digest."""
    content = read_content(file.path)
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise DataError(
            f"{file.path} has SHA-256 {found}, the settings say "
            f"{file.sha256 or 'nothing yet'}: if these are the problems you mean, write that "
            "into problems.source.options"
        )
    return content


def read_content(path: str | Path) -> bytes:
    """A file's bytes. Raises `DataError` where it cannot be read or is empty."""
    try:
        content = Path(path).expanduser().read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the problems in {path}: {error}") from error
    if not content:
        raise DataError(f"{path} is empty: expected rows of problems")
    return content


def jsonl_rows(content: bytes, name: str) -> Iterator[LocatedRow]:
    """The rows: one JSON object per line, in UTF-8. Blank lines, a byte order mark and CRLF are
    accepted."""
    for number, line in enumerate(content.removeprefix(_BYTE_ORDER_MARK).split(b"\n"), start=1):
        where = f"{name}, line {number}"
        if len(line) > _MAX_LINE_BYTES:
            raise DataError(
                f"{where}: {len(line) / 2**20:.0f} MB in one line, expected at most "
                f"{_MAX_LINE_BYTES / 2**20:.0f}: is it JSON Lines, with one object a line?"
            )
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8"), object_pairs_hook=_each_field_once)
        except UnicodeDecodeError as error:
            raise DataError(f"{where}: not UTF-8 text ({error}): convert the file") from error
        except (ValueError, RecursionError) as error:
            shown = line[:80].decode("utf-8", "replace")
            raise DataError(
                f"{where}: expected a JSON object, found {shown!r} ({error})"
            ) from error
        if not isinstance(row, dict):
            shown = line[:80].decode("utf-8", "replace")
            raise DataError(f"{where}: expected a JSON object, found {shown!r}")
        yield where, row


def _each_field_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The fields as a dictionary, refusing a repeated name: Python's reader would silently keep the
    last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"more than one field is called {', '.join(map(repr, twice))}")
    return found


def parquet_rows(content: bytes, name: str) -> Iterator[LocatedRow]:
    """The rows of a Parquet file, counted from 1."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(pa.BufferReader(content)) as file:
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist(maps_as_pydicts="strict"):
                    number += 1
                    yield f"{name}, row {number}", row
    except KeyError as error:
        raise DataError(f"{name}, row {number + 1} or one soon after it: {error}") from error
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{name} cannot be read as Parquet after row {number} ({error}): it is truncated, "
            "damaged, or no Parquet file"
        ) from error
