"""The largest differences between two versions of an artifact, checked by hand-made ones."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from distil_core.lineage.reproduce.differences import largest_differences


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    return tmp_path / "one", tmp_path / "two"


def test_tensors_of_a_folder_file_by_file(two: tuple[Path, Path]) -> None:
    weights = {"a": np.array([1.0, 2.0]), "b": np.zeros(3)}
    for folder, step in zip(two, (0.0, 0.25), strict=True):
        save_file(weights | {"a": weights["a"] + step}, folder / "model.safetensors")
        (folder / "config.json").write_text("{}")
    (two[1] / "more.txt").write_text("new")
    assert largest_differences(*two) == [
        "model.safetensors: largest difference 0.25 in a; 1 of 2 tensors differ",
        "more.txt: only in the new one",
    ]


def test_columns_of_tables_also_lists_and_text(two: tuple[Path, Path]) -> None:
    table = {"x": [1.0, float("nan")], "ids": [[1, 2], [3]], "text": ["a", "b"], "same": [1, 1]}
    changed = table | {"x": [1.5, float("nan")], "ids": [[1, 2], [5]], "text": ["a", "c"]}
    files = [folder / "t.parquet" for folder in two]
    for file, columns in zip(files, (table, changed), strict=True):
        pq.write_table(pa.table(columns), file)
    lines = largest_differences(*files)
    assert [line.partition(":")[0] for line in lines] == ["column x", "column ids", "column text"]
    assert lines[0] == "column x: largest difference 0.5, 1 of 2 rows differ"
    assert "largest difference 2, 1 of 2 rows differ" in lines[1]
    assert lines[2] == "column text: 1 of 2 rows differ"


def test_rows_keys_and_csv(two: tuple[Path, Path]) -> None:
    for folder, number in zip(two, (1, 3), strict=True):
        pq.write_table(pa.table({"x": [0] * number}), folder / "rows.parquet")
        metrics = {"pass_at_1": 0.5 * number, "gate": {"promoted": number == 1}, "n": 2}
        (folder / "metrics.json").write_text(json.dumps(metrics))
        (folder / "curve.csv").write_text(f"step,loss\n0,{number}\n")
        (folder / "plain.bin").write_bytes(b"x" * number)
    assert largest_differences(*two) == [
        "curve.csv: column loss: largest difference 2, 1 of 1 rows differ",
        "metrics.json: gate.promoted: True recorded, False now (difference 1)",
        "metrics.json: pass_at_1: 0.5 recorded, 1.5 now (difference 1)",
        "plain.bin: other bytes, the same values as far as they can be compared (1 and 3 bytes)",
        "rows.parquet: 1 rows recorded, 3 now",
    ]


@pytest.mark.parametrize("name", ["t.parquet", "t.csv"])
def test_what_cannot_be_read_is_said(two: tuple[Path, Path], name: str) -> None:
    whole, broken = (folder / name for folder in two)
    frame = pl.DataFrame({"x": [1.0]})
    frame.write_parquet(whole) if name.endswith("parquet") else frame.write_csv(whole)
    broken.write_bytes(b"")
    (line,) = largest_differences(whole, broken)
    assert line.startswith("cannot be compared: ")
