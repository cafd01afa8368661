"""The rows of tables of any size in an unnamed scratch file, of which memory holds the index."""

import os
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_LENGTH_DTYPE, _START_DTYPE = np.int32, np.int64


class RowFile:
    """List and text columns, each table's values of a column in one piece, as training reads them:
    any row at any time. The index is 12 bytes for each row and column.

    folder: where the file is made, on a real disk: what the operating system keeps of it in memory
    it gives back when memory runs short. The file has no name, so that nothing is left of it
    however the process ends.
    """

    def __init__(self, columns: Sequence[str], folder: Path | None = None):
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._file, path = tempfile.mkstemp(prefix="rows-", dir=folder)
        os.unlink(path)
        weakref.finalize(self, os.close, self._file)
        self._end = 0
        self._columns = {name: _Column() for name in columns}

    def append(self, table: pa.Table) -> None:
        """Take in the rows of a table that has all the columns. Raises `OSError` where the disk is
        full."""
        for name, column in self._columns.items():
            for chunk in table[name].chunks:
                offsets, values = _flat(chunk)
                column.add(self._end, offsets, values.dtype)
                self._write(values[offsets[0] : offsets[-1]])

    def read(self, name: str, index: int) -> NDArray[Any]:
        """One row of a column, in the column's own type; text as UTF-8 bytes. Not writable."""
        column = self._columns[name]
        size = int(column.lengths[index]) * column.dtype.itemsize
        content = os.pread(self._file, size, int(column.starts[index]))
        return np.frombuffer(content, dtype=column.dtype)

    def lengths(self, name: str) -> NDArray[np.int32]:
        """Of each row of a column."""
        return self._columns[name].lengths

    def _write(self, values: NDArray[np.generic]) -> None:
        remaining = memoryview(np.ascontiguousarray(values).view(np.uint8).data)
        while remaining:
            written = os.pwrite(self._file, remaining, self._end)
            self._end += written
            remaining = remaining[written:]


class _Column:
    """Where each row lies in the file."""

    def __init__(self) -> None:
        self.dtype: np.dtype[np.generic] = np.dtype(np.int32)
        self.starts = np.empty(0, _START_DTYPE)
        self.lengths = np.empty(0, _LENGTH_DTYPE)

    def add(self, start: int, offsets: NDArray[np.int64], dtype: np.dtype[np.generic]) -> None:
        self.dtype = dtype
        starts = start + (offsets[:-1] - offsets[0]) * dtype.itemsize
        self.starts = np.concatenate([self.starts, starts.astype(_START_DTYPE)])
        self.lengths = np.concatenate([self.lengths, np.diff(offsets).astype(_LENGTH_DTYPE)])


def _flat(array: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.generic]]:
    """A list or text array's offsets into its values, and the values, views of it."""
    if pa.types.is_string(array.type):
        _, offsets, data = array.buffers()
        offsets_n = np.frombuffer(offsets, np.int32)[array.offset : array.offset + len(array) + 1]
        values = np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8)
        return offsets_n.astype(np.int64), values
    return array.offsets.to_numpy().astype(np.int64), array.values.to_numpy(zero_copy_only=False)
