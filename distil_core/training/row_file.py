"""Rows of tables of any size in an unnamed scratch file; memory holds only the index."""

import os
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_WRITTEN_AT_ONCE = 2**22


class RowFile:
    """List and text columns, stored row by row as training reads them: any row at any time. The
    index takes 8 bytes for each row and 4 for each row and column.

    folder: where the file is made; it should be on a disk, whose cache the operating system frees
    when memory runs short. The file has no name, so that nothing is left of it however the process
    ends.
    """

    def __init__(self, columns: Sequence[str], folder: Path | None = None):
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._file, path = tempfile.mkstemp(prefix="rows-", dir=folder)
        os.unlink(path)
        weakref.finalize(self, os.close, self._file)
        self._columns = tuple(columns)
        self._types: tuple[np.dtype[np.generic], ...] = ()
        self._end = 0
        self._starts_b = np.empty(0, np.int64)
        self._lengths_bc = np.empty((0, len(columns)), np.int32)

    def append(self, table: pa.Table) -> None:
        """Add the rows of a table that has all the columns; all tables must have the same types.
        Raises `OSError` where the disk is full."""
        columns = [_flat(table[name]) for name in self._columns]
        self._types = tuple(values.dtype for _, values in columns)
        lengths_bc = np.stack([np.diff(offsets) for offsets, _ in columns], axis=1)
        sizes_b = lengths_bc @ np.array([dtype.itemsize for dtype in self._types])
        starts_b = self._end + np.cumsum(sizes_b) - sizes_b
        self._write(_rows(columns))
        self._starts_b = np.concatenate([self._starts_b, starts_b])
        self._lengths_bc = np.concatenate([self._lengths_bc, lengths_bc.astype(np.int32)])

    def read(self, index: int) -> list[NDArray[Any]]:
        """One row: its values in each column, in the column's own type, text as UTF-8 bytes.
        Read-only."""
        lengths = self._lengths_bc[index].tolist()
        sizes = [
            length * dtype.itemsize for length, dtype in zip(lengths, self._types, strict=True)
        ]
        content = os.pread(self._file, sum(sizes), int(self._starts_b[index]))
        values, start = [], 0
        for length, size, dtype in zip(lengths, sizes, self._types, strict=True):
            values.append(np.frombuffer(content, dtype, length, start))
            start += size
        return values

    def lengths(self, name: str) -> NDArray[np.int32]:
        """The length of each row's list in a column."""
        return self._lengths_bc[:, self._columns.index(name)]

    def _write(self, rows: Iterator[bytes]) -> None:
        pending, size = [], 0
        for row in rows:
            pending.append(row)
            size += len(row)
            if size >= _WRITTEN_AT_ONCE:
                self._write_all(b"".join(pending))
                pending, size = [], 0
        self._write_all(b"".join(pending))

    def _write_all(self, content: bytes) -> None:
        remaining = memoryview(content)
        while remaining:
            written = os.pwrite(self._file, remaining, self._end)
            self._end += written
            remaining = remaining[written:]


def _flat(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], NDArray[np.generic]]:
    """A list or text column as offsets into its values, starting at 0, and the values."""
    array = column.combine_chunks()
    if pa.types.is_string(array.type):
        _, offsets, data = array.buffers()
        offsets_n = np.frombuffer(offsets, np.int32)[array.offset : array.offset + len(array) + 1]
        values = np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8)
    else:
        offsets_n, values = array.offsets.to_numpy(), array.values.to_numpy(zero_copy_only=False)
    first, last = int(offsets_n[0]), int(offsets_n[-1])
    return offsets_n.astype(np.int64) - first, values[first:last]


def _rows(columns: list[tuple[NDArray[np.int64], NDArray[np.generic]]]) -> Iterator[bytes]:
    """Each row's bytes, column after column."""
    contents = [
        memoryview(np.ascontiguousarray(values).view(np.uint8).data) for _, values in columns
    ]
    ends = [(offsets * values.dtype.itemsize).tolist() for offsets, values in columns]
    for row in range(len(ends[0]) - 1):
        yield b"".join(
            [content[end[row] : end[row + 1]] for content, end in zip(contents, ends, strict=True)]
        )
