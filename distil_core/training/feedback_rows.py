"""Feedback tables as rows for training batches."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from distil_core.errors import DataError
from distil_core.tables.schemas import CONTINUATIONS, CONTINUATIONS_FOLDER, FEEDBACK
from distil_core.tables.store import read_shards, read_table
from distil_core.training.policy_tokens import Turns
from distil_core.training.row_file import RowFile

_COLUMNS = (
    "rollout_id",
    "context_ids",
    "response_ids",
    "behaviour_logprobs",
    "expert_counts",
    "expert_ids",
    "expert_logprobs",
    "expert_tail_logprobs",
    "turn_lengths",
    "marked_turns",
    "turn_rewards",
)


@dataclass(frozen=True)
class FeedbackRow:
    """One rollout with the expert's distribution at each of its T positions, which are the tokens
    that the policy wrote.

    docs/method.md#stored-distribution. expert_counts_t: how many of expert_ids and expert_logprobs
    belong to each position. by_expert: the expert wrote the tokens itself. turns: where an
    environment wrote tokens between them, marks some, or gave some a reward; else None.
    """

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
    turns: Turns | None = None

    @property
    def read_ids(self) -> NDArray[np.int32]:
        """All tokens after the context, the environment's among them."""
        return self.response_ids_t if self.turns is None else self.turns.ids

    def is_truncated(self, end_token_ids: Collection[int]) -> bool:
        """Whether the student was cut off; a row that the expert wrote may end anywhere."""
        return not self.by_expert and int(self.response_ids_t[-1]) not in end_token_ids


class FeedbackRows:
    """All rows to train on, and which of them belong to one problem of one table.

    Rows are in a scratch file; memory holds less than 200 bytes for each, whatever its length.
    context: of the newest table. by_expert, table_numbers: of each row; by default all rows are the
    student's, of one table. scratch_dir: where the file is made; by default the system's.
    num_without_verdict: rollouts that were sampled but are not rows, as they have no verdict.
    """

    num_without_verdict: int = 0

    def __init__(
        self,
        table: pa.Table | Iterable[pa.Table],
        context: dict[str, Any],
        by_expert: Sequence[bool] | None = None,
        table_numbers: Sequence[int] | None = None,
        scratch_dir: Path | None = None,
    ):
        self.context = context
        self._rows = RowFile(_COLUMNS, scratch_dir)
        rewards: list[NDArray[np.float32]] = []
        has_expert: list[NDArray[np.bool_]] = []
        problems: list[pa.ChunkedArray] = []
        for part in [table] if isinstance(table, pa.Table) else table:
            self._rows.append(part)
            rewards.append(part["reward"].to_numpy())
            has_expert.append(part["has_expert"].to_numpy())
            problems.append(part["problem_id"])
        self._rewards = np.concatenate(rewards)
        self._has_expert = np.concatenate(has_expert)
        self._by_expert = by_expert or [False] * len(self._rewards)
        # The same problem in a later table is another group, as another policy sampled it.
        groups: dict[tuple[int, str], list[int]] = {}
        numbers = table_numbers or [0] * len(self._rewards)
        names = (name for part in problems for name in part.to_pylist())
        for index, key in enumerate(zip(numbers, names, strict=True)):
            groups.setdefault(key, []).append(index)
        self.groups: list[list[int]] = list(groups.values())

    def __len__(self) -> int:
        return len(self._rewards)

    def sampled(self, group: Sequence[int]) -> list[int]:
        """The rows of a group that the student sampled."""
        return [index for index in group if not self._by_expert[index]]

    def rewards(self, indices: Sequence[int]) -> NDArray[np.float32]:
        """Of these rows."""
        return self._rewards[list(indices)]

    def any_expert(self, indices: Sequence[int]) -> bool:
        """Whether the expert says something of any of these rows."""
        return bool(self._has_expert[list(indices)].any())

    @property
    def any_marked(self) -> bool:
        """Whether an environment marks any turn of any row."""
        return bool(self._rows.lengths("marked_turns").any())

    @property
    def any_turn_rewards(self) -> bool:
        """Whether an environment gave any turn of any row a reward."""
        return bool(self._rows.lengths("turn_rewards").any())

    @property
    def longest(self) -> int:
        """The number of tokens of the longest row, context and all that comes after it."""
        lengths = self._rows.lengths
        return int((lengths("context_ids") + lengths("response_ids")).max())

    def row(self, index: int) -> FeedbackRow:
        """One row, with read-only arrays."""
        name, context, written, behaviour, *expert, lengths, marked, rewards = self._rows.read(
            index
        )
        counts, ids, logprobs, tails = expert
        turns, response = None, written
        if len(lengths) or len(marked) or len(rewards):
            whole = np.array([len(written)], np.int32)
            turns = Turns(written, lengths if len(lengths) else whole, marked, rewards)
            response = written[turns.is_policys]
            response.flags.writeable = False
        return FeedbackRow(
            rollout_id=name.tobytes().decode(),
            reward=float(self._rewards[index]),
            has_expert=bool(self._has_expert[index]),
            context_ids=context,
            response_ids_t=response,
            behaviour_logprobs_t=behaviour,
            expert_counts_t=counts,
            expert_ids=ids,
            expert_logprobs=logprobs,
            expert_tail_logprobs_t=tails,
            by_expert=self._by_expert[index],
            turns=turns,
        )


def read_feedback(
    folder: Path, expected_tokenizer_digest: str, scratch_dir: Path | None = None
) -> FeedbackRows:
    """The feedback table in `folder`, checked against the policy's tokenizer and for consistency.

    Raises `DataError` for what `read_table` refuses, another tokenizer, and lengths that disagree.
    """
    return read_feedback_tables([folder], expected_tokenizer_digest, scratch_dir)


def read_feedback_tables(
    folders: Sequence[Path], expected_tokenizer_digest: str, scratch_dir: Path | None = None
) -> FeedbackRows:
    """Like `read_feedback`, for several tables, oldest first (DAgger's aggregation). Memory holds
    one shard at a time."""
    by_expert: list[bool] = []
    table_numbers: list[int] = []
    context: dict[str, Any] = {}
    num_without_verdict: dict[int, int] = {}

    def parts() -> Iterator[pa.Table]:
        for number, folder in enumerate(folders):
            for table, found in read_shards(folder, FEEDBACK):
                _check_tokenizer(folder, found, expected_tokenizer_digest)
                context.clear()
                context.update(found)
                num_without_verdict[number] = found.get("num_without_verdict", 0)
                yield from checked(number, table, False)
            for table in _continuations(folder):
                yield from checked(number, table, True)

    def checked(number: int, table: pa.Table, is_by_expert: bool) -> Iterator[pa.Table]:
        _check_lengths(folders[number], table)
        by_expert.extend([is_by_expert] * table.num_rows)
        table_numbers.extend([number] * table.num_rows)
        yield table

    rows = FeedbackRows(parts(), context, by_expert, table_numbers, scratch_dir)
    rows.num_without_verdict = sum(num_without_verdict.values())
    return rows


def _continuations(folder: Path) -> list[pa.Table]:
    """The rows beside the table that the expert wrote, in the form of the table's rows."""
    path = folder / CONTINUATIONS_FOLDER
    if not path.exists():
        return []
    table, _ = read_table(path, CONTINUATIONS)
    schema = FEEDBACK.arrow
    responses = table["response_ids"].combine_chunks()
    # The sampler did not draw these tokens, so objectives do not read these values.
    zeros = pa.array(np.zeros(len(responses.values), np.float32))
    nothing = pa.array([[]] * table.num_rows, pa.list_(pa.int32()))
    constant = {
        "reward": pa.array(np.zeros(table.num_rows, np.float32)),
        "expert_context_ids": nothing,
        **dict.fromkeys(FEEDBACK.all_added, nothing),
        "behaviour_logprobs": pa.ListArray.from_arrays(responses.offsets, zeros),
        "has_expert": pa.array(np.ones(table.num_rows, np.bool_)),
    }
    columns = [
        constant[field.name].cast(field.type) if field.name in constant else table[field.name]
        for field in schema
    ]
    return [pa.Table.from_arrays(columns, schema=schema)]


def _check_tokenizer(folder: Path, context: dict[str, Any], expected_digest: str) -> None:
    if context.get("tokenizer_digest") != expected_digest:
        raise DataError(
            f"{folder} was made with another tokenizer (digest {context.get('tokenizer_digest')}, "
            f"the policy's is {expected_digest}): token ids would mean other text. "
            "Train the policy that sampled these rollouts, or sample again."
        )


def _check_lengths(folder: Path, table: pa.Table) -> None:
    """Raise `DataError` for the first row whose lengths disagree."""
    _check_turns(folder, table)
    lengths = {name: _lengths(table, name) for name in _COLUMNS if name != "rollout_id"}
    length = _num_policys(table, lengths)
    has_expert = table["has_expert"].to_numpy()
    num_stored = _sums(table["expert_counts"])
    wrong = length == 0
    wrong |= lengths["behaviour_logprobs"] != length
    for name in ("expert_counts", "expert_tail_logprobs"):
        wrong |= has_expert & (lengths[name] != length)
    for name in ("expert_ids", "expert_logprobs"):
        wrong |= lengths[name] != num_stored
    if not wrong.any():
        return
    row = int(wrong.argmax())
    of_policy = " of the policy" if lengths["turn_lengths"][row] else ""
    raise DataError(
        f"{folder}: rollout {table['rollout_id'][row]} has {length[row]} response tokens"
        f"{of_policy}, but {lengths['behaviour_logprobs'][row]} behaviour log-probabilities, "
        f"{lengths['expert_counts'][row]} expert counts that sum to {num_stored[row]}, and "
        f"{lengths['expert_ids'][row]} expert ids: run tabulate again"
    )


def _num_policys(table: pa.Table, lengths: dict[str, NDArray[np.int64]]) -> NDArray[np.int64]:
    """How many tokens of each row the policy wrote."""
    found = lengths["response_ids"].copy()
    for row in lengths["turn_lengths"].nonzero()[0]:
        found[row] = sum(table["turn_lengths"][int(row)].as_py()[::2])
    return found


def _check_turns(folder: Path, table: pa.Table) -> None:
    """Raise `DataError` for the first row whose turns are not those of its response."""
    has_any = sum(_lengths(table, name) for name in FEEDBACK.all_added)
    for row in np.flatnonzero(has_any).tolist():
        found = table["turn_lengths"][row].as_py()
        marked = table["marked_turns"][row].as_py()
        rewards = table["turn_rewards"][row].as_py()
        num_tokens = len(table["response_ids"][row])
        lengths = found or [num_tokens]
        num_turns = (len(lengths) + 1) // 2
        problem = None
        if len(lengths) % 2 == 0:
            problem = "an odd number of turn lengths, as the policy has the first and the last turn"
        elif min(lengths[::2]) < 1 or min(lengths) < 0:
            problem = "turn lengths of at least 1 for the policy, and of 0 for the environment"
        elif sum(lengths) != num_tokens:
            problem = f"turn lengths that sum to its {num_tokens} response tokens"
        elif marked and not 0 <= min(marked) <= max(marked) < num_turns:
            problem = f"marked turns of 0 to {num_turns - 1}"
        elif rewards and len(rewards) != num_turns:
            problem = f"rewards of {num_turns} turns, or of none"
        elif not all(0 <= reward <= 1 for reward in rewards if reward is not None):
            problem = "rewards of turns from 0 to 1"
        if problem is not None:
            raise DataError(
                f"{folder}: rollout {table['rollout_id'][row]}: expected {problem}, found turn "
                f"lengths {found}, marked turns {marked} and rewards of turns {rewards}: run "
                "tabulate again"
            )


def _lengths(table: pa.Table, name: str) -> NDArray[np.int64]:
    found: NDArray[np.int64] = pc.list_value_length(table[name]).to_numpy().astype(np.int64)
    return found


def _sums(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Sum of each row of a list column."""
    sums = []
    for chunk in column.chunks:
        before = np.concatenate([[0], np.cumsum(chunk.values.to_numpy(), dtype=np.int64)])
        sums.append(np.diff(before[chunk.offsets.to_numpy()]))
    return np.concatenate(sums)
