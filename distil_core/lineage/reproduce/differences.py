"""How far two versions of an artifact differ: the largest difference of each part."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import polars as pl

_MAX_LINES = 12


def largest_differences(expected: Path, got: Path) -> list[str]:
    """A line for each part that differs: tensor file, column, key. Equal parts have none."""
    if not expected.is_dir() or not got.is_dir():
        return _cut(_file(expected, got))
    names = sorted(
        {
            file.relative_to(folder).as_posix()
            for folder in (expected, got)
            for file in folder.rglob("*")
            if file.is_file()
        }
    )
    lines = []
    for name in names:
        one, other = expected / name, got / name
        if not one.exists() or not other.exists():
            lines.append(f"{name}: only in the {'new' if other.exists() else 'recorded'} one")
        elif one.read_bytes() != other.read_bytes():
            lines += [f"{name}: {line}" for line in _file(one, other)]
    return _cut(lines)


def _file(expected: Path, got: Path) -> list[str]:
    compare = {
        ".safetensors": _tensors,
        ".parquet": _columns,
        ".json": _keys,
        ".csv": _csv_columns,
    }.get(expected.suffix)
    try:
        lines = compare(expected, got) if compare else []
    except (ValueError, OSError) as error:
        lines = [f"cannot be compared: {error}"]
    sizes = f"{expected.stat().st_size} and {got.stat().st_size} bytes"
    return lines or [f"other bytes, the same values as far as they can be compared ({sizes})"]


def _tensors(expected: Path, got: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(expected, "pt") as one, safe_open(got, "pt") as other:
        names = sorted({*one.keys(), *other.keys()})
        unpaired = sorted({*one.keys()} ^ {*other.keys()})
        if unpaired:
            return [f"other tensors: {', '.join(unpaired)}"]
        apart = {
            name: _apart(
                one.get_tensor(name).double().numpy(), other.get_tensor(name).double().numpy()
            )
            for name in names
        }
    differing = {name: value for name, value in apart.items() if value != 0}
    if not differing:
        return []
    worst = max(differing, key=lambda name: differing[name])
    return [
        f"largest difference {differing[worst]:.3g} in {worst}; {len(differing)} of {len(names)} "
        "tensors differ"
    ]


def _columns(expected: Path, got: Path) -> list[str]:
    import polars as pl

    return _tables(pl.scan_parquet, expected, got)


def _tables(scan: Callable[[Path], "pl.LazyFrame"], expected: Path, got: Path) -> list[str]:
    import polars as pl

    try:
        return _frames(scan(expected), scan(got))
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{error}") from error


def _frames(expected: "pl.LazyFrame", got: "pl.LazyFrame") -> list[str]:
    import polars as pl

    one, other = (frame.collect_schema() for frame in (expected, got))
    if one.names() != other.names():
        return [f"other columns: {sorted({*one.names()} ^ {*other.names()})}"]
    num_rows = [frame.select(pl.len()).collect().item() for frame in (expected, got)]
    if num_rows[0] != num_rows[1]:
        return [f"{num_rows[0]} rows recorded, {num_rows[1]} now"]
    lines = []
    for name in one.names():
        # One column at a time: a table's columns of tokens may be large.
        columns = [frame.select(name).collect().to_series() for frame in (expected, got)]
        if difference := _column(*columns):
            lines.append(f"column {name}: {difference}")
    return lines


def _column(one: "pl.Series", other: "pl.Series") -> str:
    """What differs between two columns of equal length; '' for nothing."""
    import polars as pl

    if one.dtype != other.dtype:
        return f"{one.dtype} recorded, {other.dtype} now"
    num_rows = one.ne_missing(other).sum()
    if not num_rows:
        return ""
    text = f"{num_rows} of {len(one)} rows differ"
    while one.dtype == pl.List:
        one, other = (
            column.explode(empty_as_null=False, keep_nulls=False) for column in (one, other)
        )
    if not one.dtype.is_numeric() or len(one) != len(other):
        return text
    numbers = [column.cast(pl.Float64).to_numpy() for column in (one, other)]
    return f"largest difference {_apart(*numbers):.3g}, {text}"


def _keys(expected: Path, got: Path) -> list[str]:
    one, other = (_flat(json.loads(path.read_text(encoding="utf-8"))) for path in (expected, got))
    return _values(one, other)


def _csv_columns(expected: Path, got: Path) -> list[str]:
    import polars as pl

    # Types by all of a file: a curve may begin with whole numbers.
    return _tables(partial(pl.scan_csv, infer_schema_length=None), expected, got)


def _values(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    lines = []
    for key in sorted(one.keys() | other.keys()):
        a, b = one.get(key), other.get(key)
        if a == b:
            continue
        apart = ""
        if isinstance(a, int | float) and isinstance(b, int | float):
            apart = f" (difference {abs(a - b):.3g})"
        lines.append(f"{key}: {a} recorded, {b} now{apart}")
    return lines


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return {name: value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{name}.{key}" if name else str(key))
    return flat


def _apart(one: Any, other: Any) -> float:
    """The largest absolute difference; infinite where shapes differ or only one is a number."""
    if one.shape != other.shape:
        return float("inf")
    if not one.size:
        return 0.0
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    with np.errstate(invalid="ignore"):
        apart = np.where(same, 0.0, np.abs(one - other))
    return float(np.nan_to_num(apart, nan=np.inf).max())


def _cut(lines: list[str]) -> list[str]:
    more = len(lines) - _MAX_LINES
    return lines if more <= 0 else [*lines[:_MAX_LINES], f"and {more} more"]
