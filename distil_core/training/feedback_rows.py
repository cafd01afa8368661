"""Feedback tables as rows that a training batch is cut from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from distil_core.errors import DataError
from distil_core.tables.schemas import CONTINUATIONS, FEEDBACK
from distil_core.tables.store import read_rows, read_table

CONTINUATIONS_FOLDER = "continuations"
"""Beside the shards of a feedback table."""


@dataclass(frozen=True)
class FeedbackRow:
    """One rollout with the expert's distribution at each of its T positions (METHOD section 4).
    expert_counts_t says how many of expert_ids and expert_logprobs belong to each position.
    by_expert: the tokens are the expert's own, not sampled by the student."""

    rollout_id: str
    reward: float
    context_ids: NDArray[np.int32]
    response_ids_t: NDArray[np.int32]
    behaviour_logprobs_t: NDArray[np.float32]
    has_expert: bool
    expert_counts_t: NDArray[np.int32]
    expert_ids: NDArray[np.int32]
    expert_logprobs: NDArray[np.float32]
    expert_tail_logprobs_t: NDArray[np.float32]
    by_expert: bool = False

    def is_truncated(self, end_token_id: int) -> bool:
        """Whether the student was cut off; what the expert wrote may end anywhere."""
        return not self.by_expert and int(self.response_ids_t[-1]) != end_token_id


class FeedbackRows:
    """All rows to train on, and which of them belong to one problem of one table.

    context: of the newest table. by_expert, table_numbers: of each row; by default all rows are
    the student's, of one table.
    """

    def __init__(
        self,
        table: pa.Table,
        context: dict[str, Any],
        by_expert: Sequence[bool] | None = None,
        table_numbers: Sequence[int] | None = None,
    ):
        self.context = context
        self._by_expert = by_expert or [False] * table.num_rows
        self._scalars = table.select(["rollout_id", "reward", "has_expert"]).to_pylist()
        self._lists = {
            field.name: _ListColumn(table[field.name])
            for field in FEEDBACK.arrow
            if pa.types.is_list(field.type)
        }
        # A problem met again in a later table is another group: another policy sampled it.
        groups: dict[tuple[int, str], list[int]] = {}
        numbers = table_numbers or [0] * table.num_rows
        for index, key in enumerate(zip(numbers, table["problem_id"].to_pylist(), strict=True)):
            groups.setdefault(key, []).append(index)
        self.groups: list[list[int]] = list(groups.values())

    def __len__(self) -> int:
        return len(self._scalars)

    def row(self, index: int) -> FeedbackRow:
        """One row; arrays are views into the table."""
        scalars = self._scalars[index]
        lists = {name: column.row(index) for name, column in self._lists.items()}
        return FeedbackRow(
            rollout_id=scalars["rollout_id"],
            reward=scalars["reward"],
            has_expert=scalars["has_expert"],
            context_ids=lists["context_ids"],
            response_ids_t=lists["response_ids"],
            behaviour_logprobs_t=lists["behaviour_logprobs"],
            expert_counts_t=lists["expert_counts"],
            expert_ids=lists["expert_ids"],
            expert_logprobs=lists["expert_logprobs"],
            expert_tail_logprobs_t=lists["expert_tail_logprobs"],
            by_expert=self._by_expert[index],
        )


class _ListColumn:
    """A list column as one flat array and the place where each row begins."""

    def __init__(self, column: pa.ChunkedArray):
        combined = column.combine_chunks()
        if isinstance(combined, pa.ChunkedArray):
            combined = pa.concat_arrays(combined.chunks)
        self._offsets = combined.offsets.to_numpy()
        self._values = combined.values.to_numpy(zero_copy_only=False)

    def row(self, index: int) -> NDArray[Any]:
        return self._values[self._offsets[index] : self._offsets[index + 1]]


def read_feedback(folder: Path, expected_tokenizer_digest: str) -> FeedbackRows:
    """The feedback table in `folder`, checked against the policy's tokenizer and in itself.

    Raises `DataError` for what `read_table` refuses, another tokenizer, and lengths that disagree.
    """
    return read_feedback_tables([folder], expected_tokenizer_digest)


def read_feedback_tables(folders: Sequence[Path], expected_tokenizer_digest: str) -> FeedbackRows:
    """Like `read_feedback`, for several tables, oldest first (DAgger's aggregation)."""
    tables: list[pa.Table] = []
    by_expert: list[bool] = []
    table_numbers: list[int] = []
    context: dict[str, Any] = {}
    for number, folder in enumerate(folders):
        table, context = read_table(folder, FEEDBACK)
        _check_tokenizer(folder, context, expected_tokenizer_digest)
        parts = [table, *_continuations(folder)]
        tables += parts
        by_expert += [index > 0 for index, part in enumerate(parts) for _ in range(part.num_rows)]
        table_numbers += [number] * sum(part.num_rows for part in parts)
    merged = tables[0] if len(tables) == 1 else pa.concat_tables(tables)
    rows = FeedbackRows(merged, context, by_expert, table_numbers)
    for index in range(len(rows)):
        _check_lengths(folders[table_numbers[index]], rows.row(index))
    return rows


def _continuations(folder: Path) -> list[pa.Table]:
    """The expert's own rows beside the table, in the form of its rows; none where it has none."""
    path = folder / CONTINUATIONS_FOLDER
    if not path.exists():
        return []
    rows = [
        {
            **row,
            "reward": 0.0,
            "expert_context_ids": [],
            # The sampler never drew these tokens: objectives read no value of it here.
            "behaviour_logprobs": [0.0] * len(row["response_ids"]),
            "has_expert": True,
        }
        for row in read_rows(path, CONTINUATIONS)
    ]
    return [pa.Table.from_pylist(rows, schema=FEEDBACK.arrow)]


def _check_tokenizer(folder: Path, context: dict[str, Any], expected_digest: str) -> None:
    if context.get("tokenizer_digest") != expected_digest:
        raise DataError(
            f"{folder} was made with another tokenizer (digest {context.get('tokenizer_digest')}, "
            f"the policy's is {expected_digest}): token ids would mean other text. "
            "Train the policy that sampled these rollouts, or sample again."
        )


def _check_lengths(folder: Path, row: FeedbackRow) -> None:
    length = len(row.response_ids_t)
    per_position: Sequence[NDArray[Any]] = [row.behaviour_logprobs_t]
    if row.has_expert:
        per_position = [*per_position, row.expert_counts_t, row.expert_tail_logprobs_t]
    num_stored = int(row.expert_counts_t.sum())
    if (
        not length
        or any(len(values) != length for values in per_position)
        or len(row.expert_ids) != num_stored
        or len(row.expert_logprobs) != num_stored
    ):
        raise DataError(
            f"{folder}: rollout {row.rollout_id} has {length} response tokens, but "
            f"{len(row.behaviour_logprobs_t)} behaviour log-probabilities, "
            f"{len(row.expert_counts_t)} expert counts that sum to {num_stored}, and "
            f"{len(row.expert_ids)} expert ids: run tabulate again"
        )
