"""A table's row type and its Arrow schema are one definition (1 s)."""

import subprocess
import sys
from dataclasses import FrozenInstanceError, dataclass, fields
from typing import Annotated, Any

import pyarrow as pa
import pytest

from distil_core.tables import schemas
from distil_core.tables.columns import Flag, Float64, Int64, TableSchema, Text, TokenIds

TABLES = [value for value in vars(schemas).values() if isinstance(value, TableSchema)]


@dataclass(frozen=True)
class Part:
    name: Annotated[Text, "its name"]
    weight: Annotated[Float64 | None, "its weight"]


@dataclass(frozen=True)
class Thing:
    number: Annotated[Int64, "its number"]
    is_whole: Annotated[Flag, "whether it is"]
    note: Annotated[Text | None, "may be missing"]
    token_ids: Annotated[TokenIds, "some ids"]
    parts: Annotated[tuple[Part, ...], "what it is made of"]


THINGS = TableSchema("things", 1, Thing)
ROWS = [
    Thing(1, True, None, [3, 4], (Part("a", 0.5), Part("b", None))),
    Thing(2, False, "x", [], ()),
    Thing(3, False, "", [5], (Part("c", 1.0),)),
]


def test_the_schema_is_made_from_the_row_type() -> None:
    parts = pa.struct([pa.field("name", pa.string(), nullable=False), ("weight", pa.float64())])
    expected = pa.schema(
        [
            pa.field("number", pa.int64(), nullable=False),
            pa.field("is_whole", pa.bool_(), nullable=False),
            pa.field("note", pa.string()),
            pa.field(
                "token_ids", pa.list_(pa.field("item", pa.int32(), nullable=False)), nullable=False
            ),
            pa.field("parts", pa.list_(pa.field("item", parts, nullable=False)), nullable=False),
        ]
    )
    assert THINGS.arrow.equals(expected)
    described = {field.name: field.metadata[b"description"] for field in THINGS.arrow}
    assert described["parts"] == b"what it is made of"
    inner = THINGS.arrow.field("parts").type.value_type.field("weight")
    assert (inner.nullable, inner.metadata[b"description"]) == (True, b"its weight")


def test_rows_come_back_whatever_chunks_the_table_is_in() -> None:
    table = THINGS.to_table(ROWS)
    assert THINGS.to_rows(table) == ROWS
    halves = pa.concat_tables([THINGS.to_table(ROWS[:1]), THINGS.to_table(ROWS[1:])])
    assert halves["parts"].num_chunks == 2
    assert THINGS.to_rows(halves) == ROWS
    assert THINGS.to_rows(table.slice(1)) == ROWS[1:]
    assert THINGS.to_rows(THINGS.to_table([])) == []
    # The same as rows written as plain values, one by one.
    plain = [{**vars(row), "parts": [vars(part) for part in row.parts]} for row in ROWS]
    assert table.equals(pa.Table.from_pylist(plain, schema=THINGS.arrow))


@pytest.mark.parametrize("schema", TABLES, ids=lambda schema: schema.name)
def test_every_table_has_a_frozen_row_type_with_its_columns(schema: TableSchema[Any]) -> None:
    assert [field.name for field in fields(schema.row)] == schema.arrow.names
    row = schema.row(**dict.fromkeys(schema.arrow.names))
    with pytest.raises(FrozenInstanceError):
        row.problem_id = "other"


def test_row_types_need_no_pyarrow() -> None:
    """Processes that verify import them."""
    program = "import distil_core.verifiers.base, sys; sys.exit('pyarrow' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
