"""Feedback tables as rows: the same values, or refused (1 s)."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distil_core.errors import DataError
from distil_core.tables.schemas import FEEDBACK, FeedbackTableRow
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


def test_no_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found nothing"):
        read_feedback(tmp_path / "feedback", "0af1")
