"""Tables come back as they were written, or not at all (5 s)."""

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import duckdb
import numpy as np
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from distil_core.errors import DataError
from distil_core.tables import schemas
from distil_core.tables.columns import TableSchema, Text
from distil_core.tables.schemas import (
    EVALUATION,
    FEEDBACK,
    PROBLEMS,
    ROLLOUTS,
    ConsultationRow,
    EvaluationRow,
    FeedbackItem,
    FeedbackTableRow,
    ProblemRow,
    TurnRow,
)
from distil_core.tables.store import (
    read_rows,
    read_table,
    scan_table,
    shard_files,
    write_shards,
    write_table,
)

CONTEXT = {"iteration": 3, "tokenizer_digest": "0af1", "nested": {"z": [1.5, None], "a": "é"}}
STRUCTS = (FeedbackItem, TurnRow)
ALL_SCHEMAS = [value for value in vars(schemas).values() if isinstance(value, TableSchema)]


@dataclass(frozen=True)
class ProblemWithoutMetadata:
    problem_id: Annotated[Text, "as in the problems table"]
    prompt: Annotated[Text, "as in the problems table"]
    reference: Annotated[Text, "as in the problems table"]


def problem(index: int) -> ProblemRow:
    return ProblemRow(f"{index:016x}", f"{index}+1=", str(index + 1), "{}")


def feedback(index: int, **changes: Any) -> FeedbackTableRow:
    values = {
        "rollout_id": f"003/{index}/0",
        "problem_id": str(index // 2),
        "reward": 0.5,
        "context_ids": [1, 2, 3],
        "expert_context_ids": [4],
        "response_ids": [5, 6],
        "behaviour_logprobs": [-0.1, -0.2],
        "has_expert": True,
        "expert_counts": [1, 2],
        "expert_ids": [7, 8, 9],
        "expert_logprobs": [-1.0, -2.0, -3.0],
        "expert_tail_logprobs": [-4.0, -math.inf],
    }
    return FeedbackTableRow(**values | changes)


def documented(language: str, files: str) -> str:
    """The example in this language, asking `files`."""
    page = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    (example,) = re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
    asked = "data/iterations/001/feedback/part-*.parquet"
    assert example.count(asked) == 1
    return example.replace(asked, files)


def value_of(kind: pa.DataType) -> st.SearchStrategy[Any]:
    """Any value of an Arrow type, its limits and odd ones among them."""
    if pa.types.is_list(kind):
        item = value_of(kind.value_type)
        item = item | st.none() if kind.value_field.nullable else item
        values = st.lists(item, max_size=4)
        return values.map(tuple) if pa.types.is_struct(kind.value_type) else values
    if pa.types.is_struct(kind):
        (made,) = (one for one in STRUCTS if [f.name for f in fields(one)] == kind.names)
        return fields_of(kind).map(lambda values: made(**values))
    if pa.types.is_integer(kind):
        edge = 2 ** (kind.bit_width - 1)
        return st.integers(-edge, edge - 1)
    if pa.types.is_floating(kind):
        return st.floats(width=32, allow_nan=False)
    if pa.types.is_boolean(kind):
        return st.booleans()
    assert pa.types.is_string(kind)
    return st.text(max_size=8)


def fields_of(columns: Iterable[pa.Field]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            field.name: value_of(field.type) | st.none() if field.nullable else value_of(field.type)
            for field in columns
        }
    )


def rows_of(schema: TableSchema[Any]) -> st.SearchStrategy[list[Any]]:
    rows = fields_of(schema.arrow).map(lambda values: schema.row(**values))
    return st.lists(rows, min_size=1, max_size=4)


@pytest.mark.parametrize("schema", ALL_SCHEMAS, ids=lambda schema: schema.name)
def test_what_is_written_is_read_again(
    schema: TableSchema[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("table") / "table.parquet"

    @given(rows_of(schema))
    @hypothesis_settings(deadline=None, max_examples=15, derandomize=True)
    def check(rows: list[Any]) -> None:
        write_table(path, schema, rows, CONTEXT)
        assert read_rows(path, schema) == rows
        table, context = read_table(path, schema)
        assert context == CONTEXT
        assert table.schema.equals(schema.arrow)

    check()


@pytest.mark.parametrize("schema", ALL_SCHEMAS, ids=lambda schema: schema.name)
def test_every_column_is_described_in_the_file_itself(
    schema: TableSchema[Any], tmp_path: Path
) -> None:
    write_table(tmp_path / "table.parquet", schema, [], {})
    for field in pq.read_schema(tmp_path / "table.parquet"):
        assert len(field.metadata[b"description"]) > 0, field.name
        expected = schema.arrow.field(field.name)
        assert field.nullable == expected.nullable


def test_the_same_rows_are_the_same_bytes(tmp_path: Path) -> None:
    reordered = dict(reversed(CONTEXT.items()))
    rows = [feedback(index) for index in range(50)]
    write_table(tmp_path / "a.parquet", FEEDBACK, rows, CONTEXT)
    write_table(tmp_path / "b.parquet", FEEDBACK, rows, reordered)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_other_programs_read_it(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    rows = [feedback(index) for index in range(3)]
    write_table(path, FEEDBACK, rows, CONTEXT)
    assert polars.read_parquet(path)["expert_ids"].to_list() == [[7, 8, 9]] * 3
    assert pq.read_table(path).num_rows == 3
    named = json.loads(pq.read_schema(path).metadata[b"distil.schema"])
    # Nothing in them needs a later version.
    assert FEEDBACK.version == 3
    assert named == {"name": "feedback", "version": 1}


@pytest.mark.parametrize("compact", [False, True])
def test_other_programs_read_shards(tmp_path: Path, compact: bool) -> None:
    """The queries that docs/benchmarks.md shows, to the letter, and what lists hold."""
    folder = tmp_path / "feedback"
    shards = [[feedback(0), feedback(1)], [feedback(2, reward=0.25)]]
    write_shards(folder, FEEDBACK, shards, CONTEXT, compact)
    files = f"{folder}/part-*.parquet"
    expected = [("1", 0.25, 2.0), ("0", 0.5, 2.0)]
    assert duckdb.sql(documented("sql", files)).fetchall() == expected
    found: dict[str, Any] = {}
    exec(documented("python", files), found)
    assert found["answer"].rows() == expected
    lists = f"select expert_ids, expert_tail_logprobs from '{files}'"
    assert duckdb.sql(lists).fetchall() == [([7, 8, 9], [-4.0, -math.inf])] * 3
    assert polars.read_parquet(files)["expert_ids"].to_list() == [[7, 8, 9]] * 3


def test_compact_holds_the_same_values_in_fewer_bytes(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = [
        feedback(
            index,
            expert_counts=[200, 100],
            expert_ids=random.zipf(1.3, 300).clip(max=100_000).tolist(),
            expert_logprobs=(-random.integers(1, 99, 300) / 8).tolist(),
        )
        for index in range(40)
    ]
    write_shards(tmp_path / "exact", FEEDBACK, [rows], CONTEXT)
    write_shards(tmp_path / "compact", FEEDBACK, [rows], CONTEXT, compact=True)
    assert read_rows(tmp_path / "compact", FEEDBACK) == read_rows(tmp_path / "exact", FEEDBACK)
    sizes = [
        (tmp_path / name / "part-00000.parquet").stat().st_size for name in ("exact", "compact")
    ]
    assert sizes[1] < sizes[0]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_table(tmp_path / "table.parquet", PROBLEMS, [problem(0), problem(1)], CONTEXT)
    return tmp_path / "table.parquet"


def refuses(path: Path, expected: str, schema: TableSchema[Any] = PROBLEMS) -> None:
    with pytest.raises(DataError, match=expected):
        read_table(path, schema)


def test_another_schema_or_version(path: Path) -> None:
    refuses(path, "expected schema 'rollouts' version 1, found 'problems' version 1", ROLLOUTS)
    newer = TableSchema("problems", 2, ProblemRow)
    refuses(path, "expected schema 'problems' version 2, found 'problems' version 1: run", newer)
    columns = TableSchema("problems", 1, ProblemWithoutMetadata)
    refuses(path, "columns differ .*expected .*found .*'metadata'", columns)


def test_a_table_of_another_program(path: Path) -> None:
    pq.write_table(pa.table({"prompt": ["1+1="]}), path)
    refuses(path, "is no DistIL table: expected schema 'problems'")
    # Rewritten by a tool that keeps our metadata: what the rows went through is unknown.
    write_table(path, PROBLEMS, [problem(0)], CONTEXT)
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    refuses(path, "is no DistIL table")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not a table at all", b"PAR1" * 100])
def test_no_table_at_all(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    refuses(path, r"cannot be read as Parquet .*dvc checkout --force")


def test_a_file_cut_anywhere(path: Path) -> None:
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        refuses(path, "truncated or damaged")


def test_a_bit_flipped_anywhere(tmp_path: Path) -> None:
    """Parquet's own checksums miss those in page headers and in the footer: some drop a list's
    last item or turn all of `has_expert` to False. A bit of the digest's own name may be lost,
    since nothing else then changes."""
    path = tmp_path / "table.parquet"
    write_table(path, FEEDBACK, [feedback(index) for index in range(3)], CONTEXT)
    content = path.read_bytes()
    rows, random = read_rows(path, FEEDBACK), np.random.default_rng(0)
    for position in range(0, len(content), 5):
        damaged = bytearray(content)
        damaged[position] ^= 1 << random.integers(8)
        path.write_bytes(damaged)
        try:
            found = read_rows(path, FEEDBACK)
        except DataError:
            continue
        assert found == rows, position
        assert content[position : position + 1] in b"blake2b-128:", position


def test_no_rows(tmp_path: Path) -> None:
    write_table(tmp_path / "table.parquet", PROBLEMS, [], {})
    refuses(tmp_path / "table.parquet", "has no rows: run again")


def test_nothing_there(tmp_path: Path) -> None:
    refuses(tmp_path / "table.parquet", "expected a Parquet file or shards .*found nothing.*dvc")
    refuses(tmp_path, "found nothing")


def test_a_null_where_none_is_allowed(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(DataError, match="problems: column 'prompt' allows no null, found 1 in 2"):
        write_table(path, PROBLEMS, [problem(0), replace(problem(1), prompt=None)], {})
    assert path.read_bytes() == before


def test_a_null_where_it_means_something(tmp_path: Path) -> None:
    row = ConsultationRow("a", None, "error", (), None, "why")
    write_table(tmp_path / "table.parquet", schemas.CONSULTATIONS, [row], {})
    assert read_rows(tmp_path / "table.parquet", schemas.CONSULTATIONS) == [row]


@pytest.mark.parametrize(
    ("column", "value"), [("num_samples", "many"), ("num_correct", 2**40), ("problem_id", 3)]
)
def test_a_value_of_another_type_is_not_written(tmp_path: Path, column: str, value: Any) -> None:
    row = EvaluationRow(
        **{field.name: "" if field.type == pa.string() else 0 for field in EVALUATION.arrow}
    )
    with pytest.raises((pa.ArrowException, TypeError, OverflowError)):
        write_table(tmp_path / "table.parquet", EVALUATION, [replace(row, **{column: value})], {})
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    parts = ([problem(index) for index in range(start, start + 3)] for start in (0, 3, 6))
    write_shards(tmp_path / "feedback", PROBLEMS, parts, CONTEXT)
    return tmp_path / "feedback"


def test_shards_are_read_in_order(shards: Path) -> None:
    assert [file.name for file in shard_files(shards)] == [
        f"part-{i:05d}.parquet" for i in range(3)
    ]
    table, context = read_table(shards, PROBLEMS)
    assert table["problem_id"].to_pylist() == [problem(index).problem_id for index in range(9)]
    assert context == CONTEXT


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_missing_shard(shards: Path, missing: int) -> None:
    """The last one too, whose number leaves no gap."""
    (shards / f"part-{missing:05d}.parquet").unlink()
    refuses(shards, r"part-0000[01].* (found part|Shards are missing)")


def test_shards_in_another_order_or_one_too_many(shards: Path) -> None:
    first, second = shards / "part-00000.parquet", shards / "part-00001.parquet"
    content = first.read_bytes()
    (shards / "part-00003.parquet").write_bytes(content)
    refuses(shards, "written as shard 2, which is the last one; read as shard 2, which is not")
    (shards / "part-00003.parquet").unlink()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    refuses(shards, "written as shard 1, which has one after it; read as shard 0")


def test_a_shard_of_another_run(shards: Path, tmp_path: Path) -> None:
    parts = [[problem(0)], [problem(1)], [problem(2)]]
    write_shards(tmp_path / "other", PROBLEMS, parts, {**CONTEXT, "iteration": 4})
    name = "part-00001.parquet"
    (shards / name).write_bytes((tmp_path / "other" / name).read_bytes())
    refuses(shards, "part-00001.parquet was not made together with part-00000.parquet")


def test_shards_appear_together_or_not_at_all(shards: Path) -> None:
    before = {path.name: path.read_bytes() for path in shards.iterdir()}

    def failing() -> Any:
        yield [problem(0)]
        yield [problem(1)]
        raise DataError("the expert fell silent")

    with pytest.raises(DataError, match="fell silent"):
        write_shards(shards, PROBLEMS, failing(), CONTEXT)
    assert {path.name: path.read_bytes() for path in shards.iterdir()} == before
    assert [path.name for path in shards.parent.iterdir()] == ["feedback"]


def test_no_shards_at_all(tmp_path: Path) -> None:
    write_shards(tmp_path / "feedback", PROBLEMS, [], CONTEXT)
    refuses(tmp_path / "feedback", "found nothing")


def test_a_scan_has_the_rows_that_reading_has(tmp_path: Path) -> None:
    shards = [[feedback(0), feedback(1)], [feedback(2, reward=0.25)]]
    write_shards(tmp_path / "feedback", FEEDBACK, shards, CONTEXT, compact=True)
    table, context = read_table(tmp_path / "feedback", FEEDBACK)
    frame, same_context = scan_table(tmp_path / "feedback", FEEDBACK)
    assert frame.collect().to_dicts() == table.to_pylist()
    assert same_context == context
    assert frame.select("reward").collect().width == 1


@given(st.data())
@hypothesis_settings(max_examples=30, deadline=None)
def test_a_scan_refuses_what_reading_refuses(data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "table.parquet")
        write_table(path, FEEDBACK, [feedback(0)], CONTEXT)
        content = bytearray(path.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(content)
        with pytest.raises(DataError) as read:
            read_table(path, FEEDBACK)
        with pytest.raises(DataError) as scanned:
            scan_table(path, FEEDBACK)
        assert str(scanned.value) == str(read.value)
