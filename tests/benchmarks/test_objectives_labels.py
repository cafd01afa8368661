"""The study's feedback tables, row by row."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.objectives.labels import Judged, build_labeller, feedback_rows, gold_rows
from benchmarks.objectives.tasks import TASKS
from distil_core.errors import ConfigError
from distil_core.policy.tokenizer import character_tokenizer, encode_text
from distil_core.problems import build_source
from distil_core.problems.base import Problem
from distil_core.tables.schemas import ConsultationRow, RolloutRow

TASK = TASKS["late_harm"]
SOURCE = build_source(TASK.problems)
TOKENIZER = character_tokenizer(SOURCE.alphabet())
PROBLEM = Problem(prompt="35146=", reference="w1265")


def judged(response_ids: list[int]) -> Judged:
    rollout = RolloutRow(
        rollout_id="r",
        problem_id=PROBLEM.problem_id,
        sample_index=0,
        seed=0,
        context_ids=encode_text(TOKENIZER, PROBLEM.prompt),
        response_ids=response_ids,
        behaviour_logprobs=[-1.0] * len(response_ids),
        finish_reason="stop",
        response="",
        error=None,
    )
    consultation = ConsultationRow(
        rollout_id="r", reward=0.0, verdict="wrong", feedback=(), isolation=None, error=None
    )
    return Judged(PROBLEM, rollout, consultation)


def test_a_program_labels_every_state_the_student_visited() -> None:
    end = int(TOKENIZER.eos_token_id)
    # A wrong running sum, then a padding token where no character should stand.
    response = [*encode_text(TOKENIZER, "w4"), int(TOKENIZER.pad_token_id), end]
    labeller = build_labeller(TASK, SOURCE, Path("unused"), TOKENIZER)
    items = [judged(response)]
    row = feedback_rows(items, labeller(items)).row(0)
    assert row.expert_counts_t.tolist() == [2, 1, 1, 1]
    d, w = encode_text(TOKENIZER, "dw")
    assert row.expert_ids.tolist() == [d, w, *encode_text(TOKENIZER, "152")]
    mass = np.exp(row.expert_logprobs)
    assert mass == pytest.approx([0.999 * 0.7, 0.999 * 0.3, 0.999, 0.999, 0.999])
    assert np.exp(row.expert_tail_logprobs_t) == pytest.approx([0.001] * 4, rel=1e-4)


def test_gold_rows_are_their_own_labels() -> None:
    row = gold_rows(TASK, [PROBLEM], TOKENIZER).row(0)
    expected = [*encode_text(TOKENIZER, "w1265"), int(TOKENIZER.eos_token_id)]
    assert row.response_ids_t.tolist() == row.expert_ids.tolist() == expected
    assert row.expert_logprobs.tolist() == [0.0] * 6
    assert np.isneginf(row.expert_tail_logprobs_t).all()
    assert row.reward == 1.0


def test_a_source_without_distributions_cannot_be_the_program() -> None:
    chains = TASKS["chain_arithmetic"]
    task = chains.model_copy(update={"expert": "program"})
    with pytest.raises(ConfigError, match="'chain_arithmetic' has none"):
        build_labeller(task, build_source(chains.problems), Path("unused"), TOKENIZER)
