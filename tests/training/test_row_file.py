"""Rows in a scratch file: what the tables held, and nothing left behind (2 s)."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distil_core.training.row_file import RowFile

COLUMNS = ("name", "ids", "values")
ROW = st.fixed_dictionaries(
    {
        "name": st.text(max_size=5),
        "ids": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=5),
        "values": st.lists(st.floats(width=32, allow_nan=False), max_size=5),
    }
)


def as_table(rows: list[dict[str, Any]]) -> pa.Table:
    kinds = [
        ("name", pa.string()),
        ("ids", pa.list_(pa.int32())),
        ("values", pa.list_(pa.float32())),
    ]
    return pa.Table.from_pylist(rows, schema=pa.schema(kinds))


@given(st.lists(st.lists(ROW, max_size=4), min_size=1, max_size=4), st.integers(0, 3))
@settings(deadline=None, max_examples=60, derandomize=True)
def test_rows_of_all_tables_come_back(tables: list[list[dict[str, Any]]], cut: int) -> None:
    """Also of tables that are slices or joined of several pieces, as Arrow makes them."""
    rows = RowFile(COLUMNS)
    for table in tables:
        whole = as_table([*table, *table])
        rows.append(whole.slice(cut))
        rows.append(pa.concat_tables([whole.slice(0, 1), whole.slice(1)]))
    expected = [row for table in tables for row in [*[*table, *table][cut:], *table, *table]]
    for index, row in enumerate(expected):
        name, ids, values = rows.read(index)
        assert name.tobytes().decode() == row["name"]
        assert ids.tolist() == row["ids"]
        np.testing.assert_array_equal(values, np.array(row["values"], np.float32))
        assert not ids.flags.writeable
        if ids.size and values.size:
            assert (ids.dtype, values.dtype) == (np.int32, np.float32)


def test_the_file_has_no_name_and_goes_with_the_object(tmp_path: Path) -> None:
    folder = tmp_path / "scratch" / "deeper"
    rows = RowFile(COLUMNS, folder)
    rows.append(as_table([{"name": "a", "ids": [1], "values": [2.0]}]))
    assert list(folder.iterdir()) == []
    file = rows._file
    del rows
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file)


def test_a_full_disk_is_an_error() -> None:
    rows = RowFile(COLUMNS)
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    with full.open("r+b", buffering=0) as device:
        rows._file, kept = device.fileno(), rows._file
        with pytest.raises(OSError, match="No space left"):
            rows.append(as_table([{"name": "a", "ids": [1], "values": [2.0]}]))
        rows._file = kept
