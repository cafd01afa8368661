"""Tables that need nothing of a later version keep their bytes, and both are read (4 s)."""

from dataclasses import MISSING, field, fields, make_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from test_store import CONTEXT, feedback, rows_of

from distil_core.errors import DataError
from distil_core.tables.columns import TableSchema
from distil_core.tables.schemas import (
    FEEDBACK,
    ROLLOUTS,
    FeedbackItem,
    RolloutRow,
    TurnRow,
)
from distil_core.tables.store import (
    read_rows,
    read_shards,
    read_table,
    scan_table,
    write_shards,
    write_table,
)

WITH_ADDED = [FEEDBACK, ROLLOUTS]
TURN = TurnRow(
    num_tokens=2,
    num_observation_tokens=3,
    finish_reason="stop",
    action="2+2",
    observation="4",
    reward=None,
    verdict=None,
    feedback=(FeedbackItem("tool_output", "4"), FeedbackItem("execution_trace", "é\n")),
    is_marked=True,
    isolation=None,
)
ADDED: dict[str, Any] = {
    "feedback": {"turn_lengths": [2, 1, 4], "marked_turns": [1], "turn_rewards": [None, 0.5]},
    "rollouts": {"turns": (TURN, replace(TURN, feedback=(), observation=None, reward=0.5))},
}


OLDER = [(FEEDBACK, 1), (FEEDBACK, 2), (ROLLOUTS, 1)]


def older(schema: TableSchema[Any], version: int) -> TableSchema[Any]:
    """The table as it was in an earlier version, made on its own."""
    hints = get_type_hints(schema.row, include_extras=True)
    later = added_after(schema, version)
    kept = [one for one in fields(schema.row) if one.name not in later]
    if version == 1:
        assert all(one.default is MISSING for one in kept)
    columns = [(one.name, hints[one.name], field()) for one in kept]
    row = make_dataclass(f"Older{schema.row.__name__}", columns, frozen=True)
    return TableSchema(schema.name, version, row)


def added_after(schema: TableSchema[Any], version: int) -> tuple[str, ...]:
    return tuple(name for names in schema.added[version - 1 :] for name in names)


def as_of(schema: TableSchema[Any], version: int, row: Any) -> Any:
    """The row with all columns of this version, and none that came later."""
    return replace(row, **ADDED[schema.name] | dict.fromkeys(added_after(schema, version), ()))


def with_added(schema: TableSchema[Any], row: Any) -> Any:
    return as_of(schema, schema.version, row)


def as_lists(schema: TableSchema[Any], row: Any) -> Any:
    """Lists of plain values are read as lists."""
    changes = (
        {} if schema is ROLLOUTS else {name: list(getattr(row, name)) for name in ADDED["feedback"]}
    )
    return replace(row, **changes)


@pytest.mark.parametrize(("schema", "version"), OLDER)
def test_rows_that_need_nothing_new_have_the_bytes_of_before(
    schema: TableSchema[Any], version: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("versions")
    first = older(schema, version)
    assert schema.version == 1 + len(schema.added)

    @given(rows_of(schema), st.booleans())
    @hypothesis_settings(deadline=None, max_examples=15, derandomize=True)
    def check(rows: list[Any], compact: bool) -> None:
        plain = [as_of(schema, version, row) for row in rows]
        before = [first.row(*(getattr(row, name) for name in first.arrow.names)) for row in plain]
        write_shards(folder / "now", schema, [plain, plain[:1]], CONTEXT, compact=compact)
        write_shards(folder / "before", first, [before, before[:1]], CONTEXT, compact=compact)
        for name in ("part-00000.parquet", "part-00001.parquet"):
            assert (folder / "now" / name).read_bytes() == (folder / "before" / name).read_bytes()
        # And both are read with the added columns empty.
        table, context = read_table(folder / "before", schema)
        assert context == CONTEXT
        assert table.schema.equals(schema.arrow)
        expected = [as_lists(schema, row) for row in [*plain, *plain[:1]]]
        assert read_rows(folder / "before", schema) == expected

    check()


@pytest.mark.parametrize("schema", WITH_ADDED, ids=lambda schema: schema.name)
def test_shards_of_all_versions_are_one_table(
    schema: TableSchema[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("versions") / "table"

    @given(rows_of(schema), st.lists(st.integers(1, schema.version), min_size=1, max_size=4))
    @hypothesis_settings(deadline=None, max_examples=25, derandomize=True)
    def check(rows: list[Any], versions: list[int]) -> None:
        shards = [[as_of(schema, version, row) for row in rows] for version in versions]
        write_shards(folder, schema, shards, CONTEXT)
        expected = [as_lists(schema, row) for shard in shards for row in shard]
        assert read_rows(folder, schema) == expected
        lazy, context = scan_table(folder, schema)
        assert context == CONTEXT
        scanned = lazy.collect()
        assert scanned.columns == schema.arrow.names
        assert schema.to_rows(scanned.to_arrow().cast(schema.arrow)) == expected
        for table, _ in read_shards(folder, schema):
            assert table.schema.equals(schema.arrow)

    check()


def test_what_is_said_of_a_turn_comes_back(tmp_path: Path) -> None:
    """Structs in structs, with nulls, over turns of different numbers of items."""
    row = RolloutRow("1/a/0", "a", 0, 7, [1], [2, 3], [-1.0], "stop", "x", None)
    rows = [replace(row, sample_index=n, turns=(TURN,) * n) for n in range(4)]
    rows.append(with_added(ROLLOUTS, row))
    write_table(tmp_path / "rollouts.parquet", ROLLOUTS, rows, {})
    found = read_rows(tmp_path / "rollouts.parquet", ROLLOUTS)
    assert found == rows
    assert found[4].turns[0].feedback[1] == FeedbackItem("execution_trace", "é\n")
    assert found[4].turns[1].feedback == ()
    assert [one.turns[0].reward for one in found[1:]] == [None] * 4


def test_a_table_of_another_version_is_refused(tmp_path: Path) -> None:
    """One that is neither this version nor one of those before it."""
    for version in (0, 4):
        other = TableSchema(FEEDBACK.name, version, FEEDBACK.row)
        write_table(tmp_path / "f.parquet", other, [feedback(0)], {})
        for read in (read_rows, scan_table):
            with pytest.raises(DataError, match=rf"version 3, found 'feedback' version {version}"):
                read(tmp_path / "f.parquet", FEEDBACK)


def test_a_first_version_with_columns_of_the_second_is_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "f.parquet", TableSchema("feedback", 1, FEEDBACK.row), [feedback(0)], {})
    with pytest.raises(DataError, match=r"version 1; expected .*, found .*'turn_lengths'"):
        read_rows(tmp_path / "f.parquet", FEEDBACK)


def test_arrays_and_tuples_count_as_empty_alike(tmp_path: Path) -> None:
    """A table is of the first version by what is in it, not by how it is given."""
    contents = set()
    for number, empty in enumerate(((), [], np.empty(0, np.int32))):
        path = tmp_path / f"{number}.parquet"
        names = dict.fromkeys(FEEDBACK.all_added, empty)
        write_table(path, FEEDBACK, [feedback(0, **names)], {})
        contents.add(path.read_bytes())
    write_table(tmp_path / "marked.parquet", FEEDBACK, [feedback(0, marked_turns=[0])], {})
    assert len(contents) == 1
    assert (tmp_path / "marked.parquet").read_bytes() not in contents
