"""Write and read tables: atomically, and refusing any table that is not what it should be.

Each file carries a digest of all its bytes. Parquet's own checksums only cover data pages: one
flipped bit in a page's header or in the footer drops items or exchanges a column's values.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from distil_core.errors import DataError
from distil_core.files import atomic_path
from distil_core.tables.columns import Row, TableSchema

if TYPE_CHECKING:
    import polars as pl

_Content = TypeVar("_Content")
_Reader = Callable[[bytes, pq.ParquetFile, TableSchema[Any]], _Content]
"""What a shard becomes: of its bytes, which are whole, and the version that it is written in."""
_SCHEMA_KEY, _CONTEXT_KEY = b"distil.schema", b"distil.context"
_SHARD_KEY, _DIGEST_KEY = b"distil.shard", b"distil.digest"
_DIGEST_BYTES = 16
_DIGEST_PREFIX = b"blake2b-128:"
_NO_DIGEST = _DIGEST_PREFIX + b"0" * 2 * _DIGEST_BYTES
"""Stands for the digest in the bytes that the digest is of."""


def write_table(
    path: Path,
    schema: TableSchema[Row],
    rows: Sequence[Row],
    context: Mapping[str, Any],
) -> None:
    """Write `rows` to one Parquet file, in the earliest version of the schema that can hold them.

    context: JSON-able facts about how the table was made (settings, tokenizer digest), which
    readers get back. It must hold nothing that differs from run to run, such as times.
    """
    with atomic_path(path) as temporary:
        _write(temporary, schema, rows, context, index=0, is_last=True)


def write_shards(
    folder: Path,
    schema: TableSchema[Row],
    shards: Iterable[Sequence[Row]],
    context: Mapping[str, Any],
    compact: bool = False,
) -> None:
    """Write a folder of Parquet files, one for each shard; memory holds two shards at a time. The
    folder appears only when all are written.

    compact: store the same values in fewer bytes where they are rounded log-probabilities and ids
    of a large vocabulary, at the cost of more time for writing.
    """
    with atomic_path(folder) as temporary:
        temporary.mkdir(parents=True)
        for index, (rows, is_last) in enumerate(_with_last(shards)):
            path = temporary / f"part-{index:05d}.parquet"
            _write(path, schema, rows, context, index, is_last, compact)


def read_table(path: Path, schema: TableSchema[Any]) -> tuple[pa.Table, dict[str, Any]]:
    """The rows of one file (or all of a folder's shards, in order) and its context.

    Raises `DataError` for a missing, truncated or damaged file, another schema or version, a
    missing or foreign shard, and a table without rows.
    """
    shards = list(read_shards(path, schema))
    return pa.concat_tables(table for table, _ in shards), shards[-1][1]


def read_shards(path: Path, schema: TableSchema[Any]) -> Iterator[tuple[pa.Table, dict[str, Any]]]:
    """`read_table` file by file, each with the context: memory holds one shard at a time. A table
    without rows is refused after its last shard."""
    return _shards(path, schema, lambda _, file, found: _completed(file.read(), schema, found))


def scan_table(path: Path, schema: TableSchema[Any]) -> tuple["pl.LazyFrame", dict[str, Any]]:
    """The rows of `read_table` as a lazy polars frame, and the context. Every byte is checked, but
    only the columns that a query asks for are decoded. Raises what `read_table` raises."""
    import polars as pl

    shards = list(_shards(path, schema, lambda content, _, found: (content, found)))
    versions = {found.version for (_, found), _ in shards}
    if versions == {schema.version}:
        return pl.scan_parquet([content for (content, _), _ in shards]), shards[-1][1]
    complete = pl.DataFrame(schema.arrow.empty_table())
    frames = [
        pl.scan_parquet(content).with_columns(
            pl.lit([], dtype=complete[name].dtype).alias(name)
            for name in schema.all_added
            if name not in found.arrow.names
        )
        for (content, found), _ in shards
    ]
    return pl.concat(frames), shards[-1][1]


def _completed(table: pa.Table, schema: TableSchema[Any], found: TableSchema[Any]) -> pa.Table:
    """The table with the columns that its version lacks."""
    return table if found is schema else schema.completed(table)


def read_rows(path: Path, schema: TableSchema[Row]) -> list[Row]:
    """`read_table` as rows of the schema's type."""
    table, _ = read_table(path, schema)
    return schema.to_rows(table)


def shard_files(path: Path) -> list[Path]:
    """The Parquet files of a table: itself, or the shards in its folder. Raises `DataError` if a
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


def stated_digest(path: Path) -> str:
    """The digests of all bytes that a table's files state, as one; tables in its folders included.
    It tells tables apart without reading them. Raises `DataError` for a file that states none."""
    files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    stated = [f"{file.relative_to(path).as_posix()} {_stated(file)}" for file in files]
    if not stated:
        raise DataError(f"no table {path}: run the stage that writes it, or `dvc checkout`")
    return hashlib.blake2b("\n".join(stated).encode(), digest_size=_DIGEST_BYTES).hexdigest()


def _stated(file: Path) -> str:
    try:
        metadata = pq.read_metadata(file).metadata or {}
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{file} cannot be read ({error}): run the stage that writes it") from error
    if _DIGEST_KEY not in metadata:
        raise DataError(f"{file} is no table of this project: run the stage that writes it")
    return str(metadata[_DIGEST_KEY].decode())


def _write(
    path: Path,
    schema: TableSchema[Row],
    rows: Sequence[Row],
    context: Mapping[str, Any],
    index: int,
    is_last: bool,
    compact: bool = False,
) -> None:
    schema = schema.for_rows(rows)
    arrow = schema.arrow.with_metadata(
        {
            _SCHEMA_KEY: json.dumps({"name": schema.name, "version": schema.version}),
            _CONTEXT_KEY: json.dumps(context, sort_keys=True),
            _SHARD_KEY: json.dumps({"index": index, "is_last": is_last}),
        }
    )
    table = schema.to_table(rows).replace_schema_metadata(arrow.metadata)
    # pyarrow writes a null to a column that allows none without an error.
    for field, column in zip(arrow, table.columns, strict=True):
        if not field.nullable and column.null_count:
            raise DataError(
                f"{schema.name}: column {field.name!r} allows no null, "
                f"found {column.null_count} in {len(rows)} rows"
            )
    options = _compact_options(arrow) if compact else {}
    with pq.ParquetWriter(path, arrow, compression="zstd", **options) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({_DIGEST_KEY: _NO_DIGEST})
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.seek(content.rindex(_NO_DIGEST))
        file.write(_digest(content))


def _compact_options(schema: pa.Schema) -> dict[str, Any]:
    """Options that store the bytes of list values by rank, so that similar bytes are adjacent:
    those of rounded numbers are mostly zeros, and those of ids are unevenly distributed. Lists get
    no dictionary, which would hide equal contexts from zstd. zstd's level 17 would save another
    twentieth, in five times the time."""
    lists = [
        field.name
        for field in schema
        if pa.types.is_list(field.type) and pa.types.is_primitive(field.type.value_type)
    ]
    return {
        "compression_level": 12,
        "use_dictionary": [name for name in schema.names if name not in lists],
        "column_encoding": {f"{name}.list.element": "BYTE_STREAM_SPLIT" for name in lists},
    }


def _shards(
    path: Path, schema: TableSchema[Any], read: _Reader[_Content]
) -> Iterator[tuple[_Content, dict[str, Any]]]:
    """The result of `read` for each shard, after its bytes are checked, and the context."""
    files = shard_files(path)
    num_rows = 0
    first_context: dict[str, Any] | None = None
    for index, file in enumerate(files):
        is_last = index == len(files) - 1
        content, shard_rows, context = _read(file, schema, index, is_last, read)
        if first_context is not None and context != first_context:
            raise DataError(
                f"{file} was not made together with {files[0].name}: the two say different things "
                "about how they were made. Run again the stage that writes them"
            )
        first_context = context
        num_rows += shard_rows
        yield content, context
    if not num_rows:
        raise DataError(f"{path} has no rows: run again the stage that writes it")


def _read(
    path: Path,
    schema: TableSchema[Any],
    index: int,
    is_last: bool,
    read: _Reader[_Content],
) -> tuple[_Content, int, dict[str, Any]]:
    """The result of `read` for one shard, its number of rows, and the context."""
    try:
        content = path.read_bytes()
        _check_digest(content)
        with pq.ParquetFile(pa.BufferReader(content)) as file:
            metadata = file.metadata.metadata or {}
            written = _written_version(path, file.schema_arrow, metadata, schema)
            _check_shard(path, json.loads(metadata[_SHARD_KEY]), index, is_last)
            context = json.loads(metadata[_CONTEXT_KEY])
            return read(content, file, written), file.metadata.num_rows, context
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path} cannot be read as Parquet ({error}): it is truncated or damaged. "
            "`dvc checkout --force` restores it, or run again the stage that writes it"
        ) from error


def _digest(content: bytes) -> bytes:
    """The digest of a file's bytes, in which `_NO_DIGEST` is in the place of the digest."""
    digest = hashlib.blake2b(content, digest_size=_DIGEST_BYTES).hexdigest()
    return _DIGEST_PREFIX + digest.encode()


def _check_digest(content: bytes) -> None:
    """Raise `pa.ArrowInvalid` where the content is not what was written. A file without a digest is
    truncated, damaged in that place, or foreign; reading it reveals that."""
    start = content.rfind(_DIGEST_PREFIX)
    if start < 0:
        return
    end = start + len(_NO_DIGEST)
    if content[start:end] != _digest(content[:start] + _NO_DIGEST + content[end:]):
        raise pa.ArrowInvalid("its content does not match its digest")


def _written_version(
    path: Path, found: pa.Schema, metadata: Mapping[bytes, bytes], schema: TableSchema[Any]
) -> TableSchema[Any]:
    """The version that a file is written in: the schema's, or one before it."""
    if not {_SCHEMA_KEY, _CONTEXT_KEY, _SHARD_KEY, _DIGEST_KEY} <= metadata.keys():
        raise DataError(f"{path} is no DistIL table: expected schema {schema.name!r}")
    named = json.loads(metadata[_SCHEMA_KEY])
    schema = schema.versions.get(named["version"], schema)
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
    return schema


def _check_shard(path: Path, found: dict[str, Any], index: int, is_last: bool) -> None:
    if found != {"index": index, "is_last": is_last}:
        follows = "is the last one" if found["is_last"] else "has one after it"
        raise DataError(
            f"{path}: written as shard {found['index']}, which {follows}; read as shard {index}, "
            f"which {'is' if is_last else 'is not'} the last one here. Shards are missing or of "
            "another run: `dvc checkout --force` restores them, or run again the stage that "
            "writes them"
        )


def _with_last(
    shards: Iterable[Sequence[Row]],
) -> Iterator[tuple[Sequence[Row], bool]]:
    """Each shard and whether it is the last one, with which a reader notices that the last is
    missing."""
    iterator = iter(shards)
    current = next(iterator, None)
    while current is not None:
        following = next(iterator, None)
        yield current, following is None
        current = following
