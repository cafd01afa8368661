import datetime
import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distil_core.errors import DataError
from distil_core.problems import PROBLEM_SOURCES
from distil_core.problems._rows import RowSource
from distil_core.problems.base import Problem


def source(path: Path, **options: Any) -> RowSource:
    file = {"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    named = {"prompt_field": "question", "reference_field": "answer", "eval_fraction": 0.5}
    return PROBLEM_SOURCES.build("parquet", {"train": file, **named, **options})


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_rows_of_a_parquet_file(tmp_path: Path) -> None:
    rows = [{"question": f"{n}?", "answer": n, "tags": ["a", None]} for n in range(3000)]
    found = source(write(tmp_path / "p.parquet", rows))
    problems = [*found.problems("train", 0), *found.problems("eval", 0)]
    assert len(problems) == 3000
    assert Problem("7?", "7", '{"tags": ["a", null]}') in problems


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": 1, "answer": "2"}, "row 1: 'question' must be text"),
        ({"question": None, "answer": "2"}, "row 1: 'question' must be text"),
        ({"q": "1", "answer": "2"}, r"row 1: no field 'question'; the row has q \(str\)"),
        ({"question": "1", "answer": "2", "day": datetime.date(2020, 1, 1)}, "metadata_fields"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "p.parquet", [row])
    with pytest.raises(DataError, match=rf"p\.parquet, .*{message}"):
        source(path).report()


def test_columns_that_are_not_named_may_hold_anything(tmp_path: Path) -> None:
    rows = [{"question": "1", "answer": "2", "image": b"\xff"}]
    found = source(write(tmp_path / "p.parquet", rows), metadata_fields=[])
    assert sum(report["rows"] for name, report in found.report().items() if name == "all") == 1


@pytest.mark.parametrize("cut", [10, 500])
def test_a_damaged_file_is_named(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path / "p.parquet", [{"question": f"{n}?", "answer": n} for n in range(900)])
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(DataError, match=r"p\.parquet cannot be read as Parquet"):
        source(path).report()


def test_a_file_without_rows(tmp_path: Path) -> None:
    empty = pa.table({"question": pa.array([], pa.string()), "answer": pa.array([], pa.string())})
    pq.write_table(empty, tmp_path / "p.parquet")
    with pytest.raises(DataError, match="holds no rows"):
        source(tmp_path / "p.parquet").report()
