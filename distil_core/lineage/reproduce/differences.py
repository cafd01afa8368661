"""How far two versions of an artifact are apart: the largest difference of each part."""

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

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
    import pyarrow.parquet as pq

    one, other = pq.read_table(expected), pq.read_table(got)
    if one.column_names != other.column_names:
        return [f"other columns: {sorted({*one.column_names} ^ {*other.column_names})}"]
    if one.num_rows != other.num_rows:
        return [f"{one.num_rows} rows recorded, {other.num_rows} now"]
    lines = []
    for name in one.column_names:
        column, new = one.column(name).combine_chunks(), other.column(name).combine_chunks()
        if not column.equals(new):
            lines.append(f"column {name}: {_column(column, new)}")
    return lines


def _column(one: "pa.Array", other: "pa.Array") -> str:
    import pyarrow as pa

    pairs = zip(one.to_pylist(), other.to_pylist(), strict=True)
    rows = sum(a != b for a, b in pairs)
    text = f"{rows} of {len(one)} rows differ"
    while pa.types.is_list(one.type) or pa.types.is_large_list(one.type):
        one, other = one.flatten(), other.flatten()
    numeric = pa.types.is_floating(one.type) or pa.types.is_integer(one.type)
    if not numeric or len(one) != len(other):
        return text
    numbers = [np.asarray(a.to_numpy(zero_copy_only=False), np.float64) for a in (one, other)]
    return f"largest difference {_apart(*numbers):.3g}, {text}"


def _keys(expected: Path, got: Path) -> list[str]:
    one, other = (_flat(json.loads(path.read_text(encoding="utf-8"))) for path in (expected, got))
    return _values(one, other)


def _csv_columns(expected: Path, got: Path) -> list[str]:
    one, other = (
        list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        for path in (expected, got)
    )
    if len(one) != len(other):
        return [f"{len(one)} rows recorded, {len(other)} now"]
    lines = []
    for name in one[0] if one else ():
        try:
            columns = [np.array([float(row[name]) for row in rows]) for rows in (one, other)]
        except (KeyError, ValueError):
            continue
        if apart := _apart(*columns):
            lines.append(f"column {name}: largest difference {apart:.3g}")
    return lines


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
    """The largest absolute difference; infinite where shapes differ or one alone is no number."""
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
