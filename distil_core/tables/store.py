"""Write and read tables: atomically, and never a table that is not what it should be."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from distil_core.errors import DataError
from distil_core.files import atomic_path
from distil_core.tables.schemas import TableSchema

_SCHEMA_KEY, _CONTEXT_KEY = b"distil.schema", b"distil.context"


def write_table(
    path: Path,
    schema: TableSchema,
    rows: Sequence[Mapping[str, Any]],
    context: Mapping[str, Any],
) -> None:
    """Write `rows` to one Parquet file.

    context: JSON-able facts about how the table was made (settings, tokenizer digest); readers
    get it back. It must hold nothing that differs from run to run, such as times.
    """
    with atomic_path(path) as temporary:
        _write(temporary, schema, rows, context)


def write_shards(
    folder: Path,
    schema: TableSchema,
    shards: Iterable[Sequence[Mapping[str, Any]]],
    context: Mapping[str, Any],
) -> None:
    """Write a folder of Parquet files, one a shard; memory holds one shard at a time. The folder
    appears only when all are written."""
    with atomic_path(folder) as temporary:
        temporary.mkdir(parents=True)
        for index, rows in enumerate(shards):
            _write(temporary / f"part-{index:05d}.parquet", schema, rows, context)


def read_table(path: Path, schema: TableSchema) -> tuple[pa.Table, dict[str, Any]]:
    """The rows of one file (or all of a folder's shards, in order) and its context.

    Raises `DataError` for a missing, truncated or damaged file, another schema or version, and a
    table without rows.
    """
    tables = []
    context: dict[str, Any] = {}
    for file in shard_files(path):
        table, context = _read(file, schema)
        tables.append(table)
    table = pa.concat_tables(tables)
    if not table.num_rows:
        raise DataError(f"{path} has no rows: run again the stage that writes it")
    return table, context


def read_rows(path: Path, schema: TableSchema) -> list[dict[str, Any]]:
    """`read_table` as plain dictionaries."""
    table, _ = read_table(path, schema)
    return table.to_pylist()


def iterate_shards(folder: Path, schema: TableSchema) -> Iterator[pa.Table]:
    """The shards of a folder one by one, each checked like `read_table` does."""
    for file in shard_files(folder):
        yield _read(file, schema)[0]


def shard_files(path: Path) -> list[Path]:
    """The Parquet files behind a table: itself, or the shards in its folder; `DataError` if a
    shard's number is missing."""
    if path.is_file():
        return [path]
    files = sorted(path.glob("part-*.parquet")) if path.is_dir() else []
    expected = [f"part-{index:05d}.parquet" for index in range(len(files))]
    if not files or [file.name for file in files] != expected:
        found = ", ".join(file.name for file in files) or "nothing"
        raise DataError(
            f"{path}: expected a Parquet file or shards part-00000.parquet and on, found {found}. "
            "Run the stage that writes it, or `dvc checkout`"
        )
    return files


def _write(
    path: Path,
    schema: TableSchema,
    rows: Sequence[Mapping[str, Any]],
    context: Mapping[str, Any],
) -> None:
    arrow = schema.arrow.with_metadata(
        {
            _SCHEMA_KEY: json.dumps({"name": schema.name, "version": schema.version}),
            _CONTEXT_KEY: json.dumps(context, sort_keys=True),
        }
    )
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=arrow)
    # A null in a column that allows none is written by pyarrow without complaint.
    for field, column in zip(arrow, table.columns, strict=True):
        if not field.nullable and column.null_count:
            raise DataError(
                f"{schema.name}: column {field.name!r} allows no null, "
                f"found {column.null_count} in {len(rows)} rows"
            )
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)


def _read(path: Path, schema: TableSchema) -> tuple[pa.Table, dict[str, Any]]:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            found = file.schema_arrow
            metadata = found.metadata or {}
            _check_schema(path, found, metadata, schema)
            return file.read(), json.loads(metadata[_CONTEXT_KEY])
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path} cannot be read as Parquet ({error}): it is truncated or damaged. "
            "`dvc checkout --force` restores it, or run again the stage that writes it"
        ) from error


def _check_schema(
    path: Path, found: pa.Schema, metadata: Mapping[bytes, bytes], schema: TableSchema
) -> None:
    if _SCHEMA_KEY not in metadata or _CONTEXT_KEY not in metadata:
        raise DataError(f"{path} is no DistIL table: expected schema {schema.name!r}")
    named = json.loads(metadata[_SCHEMA_KEY])
    if named != {"name": schema.name, "version": schema.version}:
        raise DataError(
            f"{path}: expected schema {schema.name!r} version {schema.version}, found "
            f"{named['name']!r} version {named['version']}: run again the stage that writes it"
        )
    if not found.equals(schema.arrow):
        raise DataError(
            f"{path}: columns differ from schema {schema.name!r} version {schema.version}; "
            f"expected {schema.arrow.names}, found {found.names}"
        )
