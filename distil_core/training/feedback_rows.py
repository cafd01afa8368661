"""Feedback tables as rows that a training batch is cut from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from distil_core.errors import DataError
from distil_core.tables.schemas import FEEDBACK
from distil_core.tables.store import read_table


@dataclass(frozen=True)
class FeedbackRow:
    """One rollout with the expert's distribution at each of its T positions (METHOD section 4).
    expert_counts_t says how many of expert_ids and expert_logprobs belong to each position."""

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


class FeedbackRows:
    """All rows of one feedback table, and which of them belong to one problem."""

    def __init__(self, table: pa.Table, context: dict[str, Any]):
        self.context = context
        self._scalars = table.select(["rollout_id", "reward", "has_expert"]).to_pylist()
        self._lists = {
            field.name: _ListColumn(table[field.name])
            for field in FEEDBACK.arrow
            if pa.types.is_list(field.type)
        }
        groups: dict[str, list[int]] = {}
        for index, problem_id in enumerate(table["problem_id"].to_pylist()):
            groups.setdefault(problem_id, []).append(index)
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
    table, context = read_table(folder, FEEDBACK)
    if context.get("tokenizer_digest") != expected_tokenizer_digest:
        raise DataError(
            f"{folder} was made with another tokenizer (digest {context.get('tokenizer_digest')}, "
            f"the policy's is {expected_tokenizer_digest}): token ids would mean other text. "
            "Train the policy that sampled these rollouts, or sample again."
        )
    rows = FeedbackRows(table, context)
    for index in range(len(rows)):
        _check_lengths(folder, rows.row(index))
    return rows


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
