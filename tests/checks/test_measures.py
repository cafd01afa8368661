"""What each check measures, on tables that have exactly that (2 s)."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distil_core.checks import measures
from distil_core.evaluation.summary import summarise
from distil_core.tables.schemas import (
    CONSULTATIONS,
    CONTINUATIONS,
    CONTINUATIONS_FOLDER,
    EVALUATION,
    FEEDBACK,
    ROLLOUTS,
    ConsultationRow,
    ContinuationRow,
    EvaluationRow,
    FeedbackItem,
    FeedbackTableRow,
    RolloutRow,
    TurnRow,
)
from distil_core.tables.store import write_shards, write_table


def rollout(problem: str, sample: int, **changes: object) -> RolloutRow:
    row = RolloutRow(
        rollout_id=f"1/{problem}/{sample}",
        problem_id=problem,
        sample_index=sample,
        seed=sample,
        context_ids=np.array([1, 2], np.int32),
        response_ids=np.array([3, 4 + sample], np.int32),
        behaviour_logprobs=np.array([-0.5, -1.0], np.float32),
        finish_reason="stop",
        response=f"answer {sample}",
        error=None,
    )
    return replace(row, **changes)  # type: ignore[arg-type]


def consultation(problem: str, sample: int, reward: float | None, verdict: str) -> ConsultationRow:
    said = (FeedbackItem("tool_output", "no"),) if verdict == "wrong" else ()
    return ConsultationRow(f"1/{problem}/{sample}", reward, verdict, said, None, None)


def feedback(name: str, probabilities: list[list[float]], tails: list[float]) -> FeedbackTableRow:
    """A row whose expert has these probabilities at each token; one without where there are
    none."""
    with np.errstate(divide="ignore"):
        logprobs = np.log(np.array([p for each in probabilities for p in each], np.float32))
        tail_logprobs = np.log(np.array(tails, np.float32))
    length = max(1, len(tails))
    return FeedbackTableRow(
        rollout_id=f"1/{name}/0",
        problem_id=name,
        reward=0.0,
        context_ids=np.array([1], np.int32),
        expert_context_ids=np.array([1], np.int32),
        response_ids=np.arange(length, dtype=np.int32),
        behaviour_logprobs=np.full(length, -1.0, np.float32),
        has_expert=bool(tails),
        expert_counts=np.array([len(each) for each in probabilities], np.int32),
        expert_ids=np.arange(len(logprobs), dtype=np.int32),
        expert_logprobs=logprobs,
        expert_tail_logprobs=tail_logprobs,
    )


def test_rollouts(tmp_path: Path) -> None:
    rows = [
        rollout("a", 0),
        rollout("a", 1, response_ids=np.array([3, 4], np.int32)),  # as the one before
        rollout("b", 0),  # the same tokens, of another problem
        rollout("b", 1, finish_reason="length"),
        rollout("b", 2, behaviour_logprobs=np.array([0.5, np.nan], np.float32)),
        rollout(
            "b",
            3,
            finish_reason="error",
            error="timed out",
            response_ids=np.array([], np.int32),
            behaviour_logprobs=np.array([], np.float32),
        ),
    ]
    write_table(tmp_path / "t.parquet", ROLLOUTS, rows, {})
    assert measures.rollouts(tmp_path / "t.parquet") == pytest.approx(
        {
            "rows": 6,
            "failed_share": 1 / 6,
            "truncation_share": 1 / 5,
            "duplicate_share": 1 / 5,
            "bad_logprob_share": 2 / 10,
        }
    )


def test_rollouts_with_turns(tmp_path: Path) -> None:
    """What the environment wrote has no log-probability, and is of what makes two rollouts one."""
    turn = TurnRow(1, 2, "stop", "a", "o", None, None, (), False, None)
    turns = (turn, replace(turn, num_observation_tokens=0))
    ids = np.array([3, 8, 9, 4], np.int32)
    rows = [
        rollout("a", 0, response_ids=ids, turns=turns),
        rollout("a", 1, response_ids=ids, turns=turns),
        rollout("a", 2, response_ids=np.array([3, 8, 8, 4], np.int32), turns=turns),
        rollout("a", 3, behaviour_logprobs=np.array([0.5, -1.0], np.float32)),
    ]
    write_shards(tmp_path / "t", ROLLOUTS, [rows[:3], rows[3:]], {})
    assert measures.rollouts(tmp_path / "t") == pytest.approx(
        {
            "rows": 4,
            "failed_share": 0,
            "truncation_share": 0,
            "duplicate_share": 1 / 4,
            "bad_logprob_share": 1 / 8,
        }
    )


def test_feedback_of_turns_is_of_the_policys_tokens(tmp_path: Path) -> None:
    plain = feedback("a", [[0.5, 0.25], []], [0.25, 0.0])
    turns = replace(plain, response_ids=np.arange(5, dtype=np.int32), turn_lengths=[1, 3, 1])
    for name, row in (("plain", plain), ("turns", turns)):
        write_shards(tmp_path / name, FEEDBACK, [[row]], {})
    assert measures.feedback(tmp_path / "turns") == measures.feedback(tmp_path / "plain")


def test_consultations(tmp_path: Path) -> None:
    rows = [
        consultation("a", 0, 0.0, "wrong"),
        consultation("a", 1, 0.0, "malformed"),
        consultation("b", 0, 1.0, "correct"),
        consultation("b", 1, 0.0, "wrong"),
        consultation("c", 0, 1.0, "correct"),  # alone with a verdict, which makes no group
        consultation("c", 1, None, "error"),
    ]
    write_table(tmp_path / "t.parquet", CONSULTATIONS, rows, {})
    assert measures.consultations(tmp_path / "t.parquet") == pytest.approx(
        {
            "rows": 6,
            "without_verdict_share": 1 / 6,
            "malformed_share": 1 / 5,
            "without_feedback_share": 4 / 6,
            "reward_mean": 2 / 5,
            "dead_group_share": 1 / 2,
        }
    )


def test_feedback(tmp_path: Path) -> None:
    shards = [
        [feedback("a", [[0.5, 0.25], []], [0.25, 0.0])],  # the second token has no label
        [feedback("b", [], []), feedback("c", [[0.75]], [0.25])],
    ]
    write_shards(tmp_path / "t", FEEDBACK, shards, {})
    found = measures.feedback(tmp_path / "t")
    assert found.pop("mass_error") < 1e-6
    assert found == pytest.approx(
        {"rows": 3, "silent_share": 1 / 3, "tail_mass_mean": 0.25, "unlabelled_share": 1 / 3}
    )


def test_the_experts_own_rows_count_in_the_mass(tmp_path: Path) -> None:
    write_shards(tmp_path / "t", FEEDBACK, [[feedback("a", [[0.75]], [0.25])]], {})
    wrong = feedback("a", [[0.75]], [0.15])
    own = ContinuationRow(
        rollout_id=wrong.rollout_id,
        problem_id="a",
        context_ids=wrong.context_ids,
        response_ids=wrong.response_ids,
        expert_counts=wrong.expert_counts,
        expert_ids=wrong.expert_ids,
        expert_logprobs=wrong.expert_logprobs,
        expert_tail_logprobs=wrong.expert_tail_logprobs,
    )
    write_shards(tmp_path / "t" / CONTINUATIONS_FOLDER, CONTINUATIONS, [[own, own]], {})
    found = measures.feedback(tmp_path / "t")
    assert found["mass_error"] == pytest.approx(0.1, abs=1e-6)
    assert found["continuation_rows"] == 2


@given(
    st.lists(st.floats(0.01, 1.0), min_size=1, max_size=8),
    st.floats(0.0, 0.5),
    st.floats(0.0, 0.3),
)
def test_any_missing_mass_is_found(
    tmp_path_factory: pytest.TempPathFactory, weights: list[float], tail: float, missing: float
) -> None:
    stored = [(1 - tail) * (1 - missing) * weight / sum(weights) for weight in weights]
    row = feedback("a", [[0.5], stored], [0.5, tail])
    path = tmp_path_factory.mktemp("table") / "t"
    write_shards(path, FEEDBACK, [[row]], {})
    assert measures.feedback(path)["mass_error"] == pytest.approx((1 - tail) * missing, abs=1e-6)


def test_a_mass_that_is_no_number_is_the_worst(tmp_path: Path) -> None:
    row = replace(feedback("a", [[0.5]], [0.5]), expert_logprobs=np.array([np.nan], np.float32))
    write_shards(tmp_path / "t", FEEDBACK, [[row]], {})
    assert measures.feedback(tmp_path / "t")["mass_error"] == 1.0


def evaluated(
    name: str, num_correct: int, num_samples: int = 4, **changes: object
) -> EvaluationRow:
    row = EvaluationRow(
        problem_id=name,
        split="eval",
        num_samples=num_samples,
        num_correct=num_correct,
        num_malformed=1,
        num_truncated=0,
        num_distinct=1,
        num_distinct_answers=1,
        majority_correct=0.0,
        response_tokens_mean=2.0,
        entropy_per_response=1.0,
        entropy_per_token=0.5,
        first_response="x",
        first_verdict="wrong",
    )
    return replace(row, **changes)  # type: ignore[arg-type]


def test_evaluation_is_of_the_held_out_problems_as_the_metrics_have_it(tmp_path: Path) -> None:
    rows = [
        evaluated("a", 1, num_truncated=2, expert_num_samples=2, expert_num_correct=1),
        evaluated("b", 3, expert_num_samples=1, expert_num_correct=1),
        evaluated("c", 4),  # the expert had nothing to read
        evaluated("d", 0, num_samples=3, expert_num_samples=2),  # a verdict is missing
        evaluated("e", 0, split="generalisation", num_truncated=4),
    ]
    write_table(tmp_path / "t.parquet", EVALUATION, rows, {})
    found = measures.evaluation(tmp_path / "t.parquet")
    metrics = summarise(rows, 100, 0)
    assert found == pytest.approx(
        {
            "rows": 4,
            "without_verdict_share": 1 / 4,
            "truncation_share": metrics["truncation_rate"],
            "malformed_share": metrics["malformed_rate"],
            "expert_gain": metrics["expert_gain"],
        }
    )
    assert found["truncation_share"] == pytest.approx(2 / 12)


def test_without_an_expert_there_is_no_gain(tmp_path: Path) -> None:
    write_table(tmp_path / "t.parquet", EVALUATION, [evaluated("a", 1)], {})
    assert "expert_gain" not in measures.evaluation(tmp_path / "t.parquet")
