"""Row types and their Arrow schemas, from one definition.

A row is a frozen dataclass. Each field is annotated with one of the column types below and with
what the column means: `Annotated[Int32, "which of the problem's rollouts, from 0"]`. `| None`
makes a column that allows nulls, a tuple of another such dataclass a list of structs.

Verifiers' processes import row types: pyarrow is imported only where there is a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain, pairwise
from operator import attrgetter
from types import NoneType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Generic,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

Row = TypeVar("Row")


@dataclass(frozen=True)
class ArrowType:
    """A type by its name in pyarrow, or a list of it: without nulls, unless it `holds_nulls`."""

    alias: str
    is_list: bool = False
    holds_nulls: bool = False


Text = Annotated[str, ArrowType("string")]
Flag = Annotated[bool, ArrowType("bool")]
Int32 = Annotated[int, ArrowType("int32")]
Int64 = Annotated[int, ArrowType("int64")]
Float32 = Annotated[float, ArrowType("float")]
Float64 = Annotated[float, ArrowType("double")]
TokenIds = Annotated[Sequence[int], ArrowType("int32", is_list=True)]
# Lists when read; an engine's arrays are written as they are.
Int32s = Annotated[Sequence[int] | NDArray[np.int32], ArrowType("int32", is_list=True)]
Float32s = Annotated[Sequence[float] | NDArray[np.float32], ArrowType("float", is_list=True)]
NullableFloat32s = Annotated[
    Sequence[float | None], ArrowType("float", is_list=True, holds_nulls=True)
]


@dataclass(frozen=True)
class TableSchema(Generic[Row]):
    """A named, versioned table of rows of one type.

    added: for each version since the first, oldest first, the columns that it added to the one
    before; lists all of them, at the end of the row and empty by default. A file is written in the
    earliest version that its rows need, so that tables which need nothing of a new version keep
    their bytes; readers add the columns. lacks: columns of the row that only later versions have.
    """

    name: str
    version: int
    row: type[Row]
    added: tuple[tuple[str, ...], ...] = ()
    lacks: tuple[str, ...] = ()

    @cached_property
    def arrow(self) -> pa.Schema:
        """The Arrow schema, with each column's meaning in its metadata."""
        import pyarrow as pa

        return pa.schema([column.arrow for column in self._columns])

    @property
    def all_added(self) -> tuple[str, ...]:
        """The columns that this version has and the first had not."""
        return tuple(chain.from_iterable(self.added))

    @cached_property
    def before(self) -> TableSchema[Row] | None:
        """The version without the columns added last; None where nothing was added."""
        if not self.added:
            return None
        *earlier, last = self.added
        return TableSchema(
            self.name, self.version - 1, self.row, tuple(earlier), (*last, *self.lacks)
        )

    @cached_property
    def versions(self) -> dict[int, TableSchema[Row]]:
        """Itself and those before it, by version."""
        earlier = {} if self.before is None else self.before.versions
        return {self.version: self, **earlier}

    def for_rows(self, rows: Sequence[Row]) -> TableSchema[Row]:
        """The earliest version in which the rows can be written."""
        if self.before is None or any(
            len(getattr(row, one)) for one in self.added[-1] for row in rows
        ):
            return self
        return self.before.for_rows(rows)

    def completed(self, table: pa.Table) -> pa.Table:
        """A table of an earlier version, with the columns that it lacks."""
        import pyarrow as pa

        for column in self._columns:
            if column.arrow.name not in table.column_names:
                empty = pa.array([[]] * table.num_rows, column.arrow.type)
                table = table.append_column(column.arrow, empty)
        return table

    @cached_property
    def _columns(self) -> tuple[_Column, ...]:
        return tuple(one for one in _columns_of(self.row) if one.arrow.name not in self.lacks)

    def to_table(self, rows: Sequence[Row]) -> pa.Table:
        """The rows, column by column."""
        import pyarrow as pa

        columns = [column.array(rows) for column in self._columns]
        return pa.Table.from_arrays(columns, schema=self.arrow)

    def to_rows(self, table: pa.Table) -> list[Row]:
        """The rows of a table of this schema."""
        values = [
            column.values(found) for column, found in zip(self._columns, table.columns, strict=True)
        ]
        return [self.row(*row) for row in zip(*values, strict=True)]


@dataclass(frozen=True)
class _Column:
    """A column of a table, or a field of the structs in one. item: the row type of the structs that
    a value is a list of; None for plain values. fields: of these structs."""

    arrow: pa.Field
    item: type[Any] | None = None
    fields: tuple[_Column, ...] = ()

    def array(self, rows: Sequence[Any]) -> pa.Array:
        """Of the rows' values."""
        import pyarrow as pa

        values = list(map(attrgetter(self.arrow.name), rows))
        if self.item is None:
            return pa.array(values, self.arrow.type)
        items = list(chain.from_iterable(values))
        structs = pa.StructArray.from_arrays(
            [field.array(items) for field in self.fields], fields=[f.arrow for f in self.fields]
        )
        starts = np.cumsum([0, *map(len, values)], dtype=np.int32)
        return pa.ListArray.from_arrays(pa.array(starts), structs, type=self.arrow.type)

    def values(self, column: pa.ChunkedArray) -> list[Any]:
        """As rows hold them."""
        import pyarrow as pa

        if self.item is None:
            return column.to_pylist()
        lists = column.combine_chunks()
        structs = lists.flatten()
        columns = [
            field.values(pa.chunked_array([structs.field(number)]))
            for number, field in enumerate(self.fields)
        ]
        items = list(map(self.item, *columns))
        ends = accumulate(lists.value_lengths().to_pylist(), initial=0)
        return [tuple(items[start:end]) for start, end in pairwise(ends)]


def _columns_of(row: type[Any]) -> tuple[_Column, ...]:
    hints = get_type_hints(row, include_extras=True)
    return tuple(_column(name, hint) for name, hint in hints.items())


def _column(name: str, hint: Any) -> _Column:
    import pyarrow as pa

    kind, *metadata = get_args(hint)
    described = {"description": metadata[-1]}
    if get_origin(kind) is tuple:
        item = get_args(kind)[0]
        fields = _columns_of(item)
        structs = _list_of(pa.struct([field.arrow for field in fields]))
        arrow = pa.field(name, structs, nullable=False, metadata=described)
        return _Column(arrow, item, fields)
    nullable = NoneType in get_args(kind)
    # That of a column with nulls stands inside of the union.
    named: ArrowType = get_args(get_args(kind)[0])[1] if nullable else metadata[0]
    arrow_type = pa.type_for_alias(named.alias)
    arrow_type = _list_of(arrow_type, named.holds_nulls) if named.is_list else arrow_type
    return _Column(pa.field(name, arrow_type, nullable=nullable, metadata=described))


def _list_of(kind: pa.DataType, holds_nulls: bool = False) -> pa.DataType:
    import pyarrow as pa

    return pa.list_(pa.field("item", kind, nullable=holds_nulls))
