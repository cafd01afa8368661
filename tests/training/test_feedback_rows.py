"""Feedback tables as rows: the same values, or refused (1 s)."""

import math
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from distil_core.errors import DataError
from distil_core.tables.schemas import CONTINUATIONS, FEEDBACK, ContinuationRow, FeedbackTableRow
from distil_core.tables.store import write_shards, write_table
from distil_core.training.feedback_rows import read_feedback


def row(index: int, **changes: Any) -> FeedbackTableRow:
    """Row `index` has `index + 1` response tokens; position t stores t + 1 ids."""
    length = index + 1
    counts = [t + 1 for t in range(length)]
    values = {
        "rollout_id": f"001/{index}/0",
        "problem_id": f"p{index % 2}",
        "reward": index / 8,
        "context_ids": [7] * (index + 2),
        "expert_context_ids": [8],
        "response_ids": list(range(10, 10 + length)),
        "behaviour_logprobs": [-0.5 * t for t in range(length)],
        "has_expert": True,
        "expert_counts": counts,
        "expert_ids": list(range(sum(counts))),
        "expert_logprobs": [-float(i) for i in range(sum(counts))],
        "expert_tail_logprobs": [-math.inf if t % 2 else -3.5 for t in range(length)],
        **changes,
    }
    return FeedbackTableRow(**values)


WITHOUT_EXPERT: dict[str, Any] = {
    "has_expert": False,
    "expert_context_ids": [],
    "expert_counts": [],
    "expert_ids": [],
    "expert_logprobs": [],
    "expert_tail_logprobs": [],
}
CONTEXT = {"tokenizer_digest": "0af1", "iteration": 1}


def test_rows_are_those_of_the_table_over_all_shards(tmp_path: Path) -> None:
    written = [row(0), row(1), row(2, **WITHOUT_EXPERT), row(3), row(4)]
    write_shards(tmp_path / "feedback", FEEDBACK, [written[:2], written[2:4], written[4:]], CONTEXT)
    rows = read_feedback(tmp_path / "feedback", "0af1")
    assert len(rows) == 5
    assert rows.context == CONTEXT
    assert rows.groups == [[0, 2, 4], [1, 3]]
    for index, expected in enumerate(written):
        found = rows.row(index)
        assert found.rollout_id == expected.rollout_id
        assert found.has_expert == expected.has_expert
        assert found.reward == pytest.approx(expected.reward)
        for name, column in (
            ("context_ids", "context_ids"),
            ("response_ids_t", "response_ids"),
            ("behaviour_logprobs_t", "behaviour_logprobs"),
            ("expert_counts_t", "expert_counts"),
            ("expert_ids", "expert_ids"),
            ("expert_logprobs", "expert_logprobs"),
            ("expert_tail_logprobs_t", "expert_tail_logprobs"),
        ):
            values = getattr(found, name)
            np.testing.assert_array_equal(
                values, np.array(getattr(expected, column), dtype=values.dtype)
            )
            assert values.dtype == (np.float32 if "logprobs" in name else np.int32)


def test_another_tokenizer(tmp_path: Path) -> None:
    write_table(tmp_path / "f.parquet", FEEDBACK, [row(0)], CONTEXT)
    with pytest.raises(DataError, match=r"another tokenizer \(digest 0af1, the policy's is ffff\)"):
        read_feedback(tmp_path / "f.parquet", "ffff")
    write_table(tmp_path / "f.parquet", FEEDBACK, [row(0)], {})
    with pytest.raises(DataError, match="digest None"):
        read_feedback(tmp_path / "f.parquet", "0af1")


@pytest.mark.parametrize(
    "changes",
    [
        {"response_ids": []},
        {"response_ids": [1]},
        {"behaviour_logprobs": [-1.0]},
        {"expert_counts": [1]},
        {"expert_counts": [1, 3]},
        {"expert_ids": [1, 2]},
        {"expert_logprobs": [-1.0, -2.0]},
        {"expert_tail_logprobs": []},
        {**WITHOUT_EXPERT, "behaviour_logprobs": []},
        {**WITHOUT_EXPERT, "response_ids": [], "behaviour_logprobs": []},
    ],
)
def test_lengths_that_disagree(tmp_path: Path, changes: dict[str, Any]) -> None:
    write_table(tmp_path / "f.parquet", FEEDBACK, [row(0), row(1, **changes)], CONTEXT)
    with pytest.raises(DataError, match=r"rollout 001/1/0 has \d response tokens, but .*tabulate"):
        read_feedback(tmp_path / "f.parquet", "0af1")


def turns_row(index: int, lengths: list[int], **changes: Any) -> FeedbackTableRow:
    """A row of index + 1 tokens of the policy; those of the environment are 100 and on."""
    own = row(index)
    policys, environments = iter(own.response_ids), iter(range(100, 1000))
    written = [
        next((policys, environments)[turn % 2])
        for turn, length in enumerate(lengths)
        for _ in range(length)
    ]
    assert next(policys, None) is None
    return row(index, **{"response_ids": written, "turn_lengths": lengths, **changes})


@given(st.data())
@hypothesis_settings(deadline=None, max_examples=25, derandomize=True)
def test_rows_of_turns_have_what_the_policy_wrote(data: st.DataObject) -> None:
    lengths = [
        data.draw(st.integers(0 if place % 2 else 1, 3))
        for place in range(2 * data.draw(st.integers(0, 3)) + 1)
    ]
    num_turns = len(lengths) // 2 + 1
    marked = sorted(data.draw(st.sets(st.integers(0, num_turns - 1))))
    given = st.none() | st.floats(0, 1, width=32)
    rewards = data.draw(st.just([]) | st.lists(given, min_size=num_turns, max_size=num_turns))
    added = {"marked_turns": marked, "turn_rewards": rewards}
    written = [row(0), turns_row(sum(lengths[::2]) - 1, lengths, **added), row(2)]
    with TemporaryDirectory() as folder:
        # Of several versions.
        write_shards(Path(folder) / "f", FEEDBACK, [[one] for one in written], CONTEXT)
        rows = read_feedback(Path(folder) / "f", "0af1")
    assert rows.longest == max(len(one.context_ids) + len(one.response_ids) for one in written)
    assert [rows.row(index).turns for index in (0, 2)] == [None, None]
    found, expected = rows.row(1), written[1]
    turns = [turn for turn, length in enumerate(lengths[::2]) for _ in range(length)]
    assert found.turns is not None
    assert found.read_ids.tolist() == found.turns.ids.tolist() == expected.response_ids
    assert found.response_ids_t.tolist() == [i for i in expected.response_ids if i < 100]
    assert found.response_ids_t.dtype == np.int32
    assert found.turns.is_policys.tolist() == [i < 100 for i in expected.response_ids]
    assert found.turns.numbers_t.tolist() == turns
    assert found.turns.marked.tolist() == marked
    assert rows.any_turn_rewards == bool(rewards)
    kept = [None if np.isnan(reward) else reward for reward in found.turns.rewards.tolist()]
    assert kept == rewards
    assert found.turns.rewards.dtype == np.float32
    assert found.expert_counts_t.tolist() == expected.expert_counts
    assert found.behaviour_logprobs_t.tolist() == expected.behaviour_logprobs
    assert found.is_truncated([1])
    assert not found.is_truncated([int(found.response_ids_t[-1])])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"turn_lengths": [2, 3]}, "an odd number of turn lengths"),
        ({"turn_lengths": [2, 3, 0]}, "at least 1 for the policy"),
        ({"turn_lengths": [0, 3, 2]}, "at least 1 for the policy"),
        ({"turn_lengths": [3, -1, 3]}, "of 0 for the environment"),
        ({"turn_lengths": [1, 2, 1]}, "sum to its 5 response tokens"),
        ({"marked_turns": [2]}, "marked turns of 0 to 1"),
        ({"marked_turns": [-1]}, "marked turns of 0 to 1"),
        ({"turn_lengths": [], "marked_turns": [1]}, "marked turns of 0 to 0"),
        ({"turn_rewards": [0.5]}, "rewards of 2 turns, or of none"),
        ({"turn_lengths": [], "turn_rewards": [0.5, None]}, "rewards of 1 turns, or of none"),
        ({"turn_rewards": [None, 1.5]}, "rewards of turns from 0 to 1"),
        ({"turn_rewards": [None, math.nan]}, "rewards of turns from 0 to 1"),
        ({"turn_lengths": [1, 1, 3]}, "4 response tokens of the policy, but 3 behaviour"),
        ({"behaviour_logprobs": [-1.0] * 5}, "3 response tokens of the policy, but 5 behaviour"),
        ({"expert_counts": [1, 1, 1, 1, 2]}, "but 3 behaviour .* 5 expert counts"),
    ],
)
def test_turns_that_are_not_those_of_the_response(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    rows = [row(1), turns_row(2, [1, 2, 2]), turns_row(2, [1, 2, 2], **changes)]
    rows[2] = replace(rows[2], rollout_id="wrong")
    write_table(tmp_path / "f.parquet", FEEDBACK, rows, CONTEXT)
    with pytest.raises(DataError, match=f"rollout wrong.*{message}.*run tabulate again"):
        read_feedback(tmp_path / "f.parquet", "0af1")


def test_the_experts_own_rows_have_no_turns(tmp_path: Path) -> None:
    """Beside a table with turns, whose columns they lack."""
    write_shards(tmp_path / "f", FEEDBACK, [[turns_row(2, [1, 2, 2])]], CONTEXT)
    own = row(1)
    names = CONTINUATIONS.arrow.names
    continued = ContinuationRow(**{name: getattr(own, name) for name in names})
    write_table(
        tmp_path / "f" / "continuations" / "part-00000.parquet", CONTINUATIONS, [continued], {}
    )
    rows = read_feedback(tmp_path / "f", "0af1")
    assert rows.row(0).turns is not None
    assert rows.row(1).by_expert
    assert rows.row(1).turns is None


def test_no_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found nothing"):
        read_feedback(tmp_path / "feedback", "0af1")
