"""Row types and their Arrow schemas, from one definition.

A row is a frozen dataclass. Each field is annotated with one of the column types below and with
what the column means: `Annotated[Int32, "which of the problem's rollouts, from 0"]`. `| None`
makes a column that allows nulls, a tuple of another such dataclass a list of structs.

Verifiers' processes import row types: pyarrow is imported only where there is a table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
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
    """A type by its name in pyarrow, or a list of it without nulls."""

    alias: str
    is_list: bool = False


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


@dataclass(frozen=True)
class TableSchema(Generic[Row]):
    """A named, versioned table of rows of one type."""

    name: str
    version: int
    row: type[Row]

    @cached_property
    def arrow(self) -> pa.Schema:
        """The Arrow schema, with each column's meaning in its metadata."""
        import pyarrow as pa

        return pa.schema([column.arrow for column in self._columns])

    @cached_property
    def _columns(self) -> list[_Column]:
        return _columns_of(self.row)

    def to_table(self, rows: Sequence[Row]) -> pa.Table:
        """The rows, column by column."""
        import pyarrow as pa

        columns = [pa.array(column.of(rows), column.arrow.type) for column in self._columns]
        return pa.Table.from_arrays(columns, schema=self.arrow)

    def to_rows(self, table: pa.Table) -> list[Row]:
        """The rows of a table of this schema."""
        values = [
            column.parsed(found.to_pylist())
            for column, found in zip(self._columns, table.columns, strict=True)
        ]
        return [self.row(*row) for row in zip(*values, strict=True)]


@dataclass(frozen=True)
class _Column:
    """item: the row type of the structs that a value is a list of; None for plain values."""

    arrow: pa.Field
    item: type[Any] | None

    def of(self, rows: Sequence[Any]) -> list[Any]:
        values = list(map(attrgetter(self.arrow.name), rows))
        if self.item is None:
            return values
        plain = _plain(self.item)
        return [[plain(item) for item in items] for items in values]

    def parsed(self, values: list[Any]) -> list[Any]:
        item = self.item
        if item is None:
            return values
        return [tuple(item(**fields) for fields in items) for items in values]


def _columns_of(row: type[Any]) -> list[_Column]:
    hints = get_type_hints(row, include_extras=True)
    return [_column(name, hint) for name, hint in hints.items()]


def _column(name: str, hint: Any) -> _Column:
    import pyarrow as pa

    kind, *metadata = get_args(hint)
    nullable = NoneType in get_args(kind)
    item = get_args(kind)[0] if get_origin(kind) is tuple else None
    if item is not None:
        arrow_type = _list_of(pa.struct([column.arrow for column in _columns_of(item)]))
    else:
        # That of a column with nulls stands inside of the union.
        named: ArrowType = get_args(get_args(kind)[0])[1] if nullable else metadata[0]
        arrow_type = pa.type_for_alias(named.alias)
        arrow_type = _list_of(arrow_type) if named.is_list else arrow_type
    described = {"description": metadata[-1]}
    return _Column(pa.field(name, arrow_type, nullable=nullable, metadata=described), item)


def _list_of(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    return pa.list_(pa.field("item", kind, nullable=False))


def _plain(item: type[Any]) -> Callable[[Any], dict[str, Any]]:
    names = tuple(get_type_hints(item))
    return lambda value: {name: getattr(value, name) for name in names}
