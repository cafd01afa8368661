"""What the stages' bodies do with failed rows, missing verdicts, and tables that do not fit."""

import csv
import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from pipeline_scratch import all_files, params, rewrite

from distil_core.errors import ConfigError, DataError, VerifierError
from distil_core.evaluation.comparison import paired_differences
from distil_core.evaluation.summary import columns_of, evaluation_frame, summarise
from distil_core.feedback.consultation import consult as consult_rollout
from distil_core.policy.model import load_model, save_policy
from distil_core.policy.tokenizer import (
    character_tokenizer,
)
from distil_core.problems.base import Problem
from distil_core.progress import no_progress
from distil_core.seeds import derive_seed
from distil_core.tables.schemas import (
    CONSULTATIONS,
    EVALUATION,
    FEEDBACK,
    PROBLEMS,
    ROLLOUTS,
    RolloutRow,
)
from distil_core.tables.store import read_rows, read_table
from distil_core.verifiers.base import Verification, Verifier
from distil_core.workspace import Workspace
from distil_tasks import base, consult, evaluate, gate, sample, tabulate, train


class Judge(Verifier):
    """A verifier that cannot reach a verdict about some responses."""

    def verify(self, problem: Problem, response: str) -> Verification:
        if response == "hang":
            raise VerifierError("the sandbox broke")
        return Verification(float(response == "right"), "wrong", ())


@pytest.mark.parametrize(
    ("rollout", "expected"),
    [
        (("right", "stop", None), (1.0, "wrong", None)),
        (("right", "length", None), (0.0, "truncated", None)),
        (("hang", "stop", None), (None, "error", "the sandbox broke")),
        (("", "error", "out of memory"), (None, "error", "out of memory")),
    ],
)
def test_a_failure_is_a_row_with_its_error_and_no_reward(
    rollout: tuple[Any, ...], expected: tuple[Any, ...]
) -> None:
    response, finish_reason, error = rollout
    row = consult_rollout(
        Judge(),
        Problem("1+1=", "2"),
        RolloutRow("a", "p", 0, 1, [1], [1], [0.0], finish_reason, response, error),
    )
    assert (row.reward, row.verdict, row.error) == expected


@pytest.mark.parametrize(
    ("stage", "output"), [(consult, "consultations.parquet"), (evaluate, "evaluation.parquet")]
)
def test_an_interrupted_stage_goes_on_in_workers_to_the_same_bytes(
    copy: Workspace, monkeypatch: pytest.MonkeyPatch, stage: Any, output: str
) -> None:
    path = copy.iteration_dir(1) / output
    expected = path.read_bytes()
    path.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(stage, "write_table", interrupt)
        with pytest.raises(KeyboardInterrupt):
            stage.body(copy, params(1), no_progress)
    (journal,) = (copy.scratch_dir / "verification").iterdir()
    assert journal.name == f"{stage.STAGE.name}-001.sqlite"
    stage.body(copy, params(1, verification={"num_workers": 2}), no_progress)
    assert path.read_bytes() == expected
    assert not journal.exists()


def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def test_rows_without_verdict_are_left_out_and_without_feedback_masked(copy: Workspace) -> None:
    def change(index: int, row: Any) -> Any:
        if index == 4:
            return replace(row, reward=None, verdict="error", error="no verdict")
        return replace(row, feedback=()) if index in (2, 11) else row

    rewrite(copy.consultations_file(1), CONSULTATIONS, change)
    tabulate.body(copy, params(1), no_progress)
    _, context = read_table(copy.feedback_dir(1), FEEDBACK)
    rows = read_rows(copy.feedback_dir(1), FEEDBACK)
    ids = [row.rollout_id for row in read_rows(copy.rollouts_file(1), ROLLOUTS)]
    assert [row.rollout_id for row in rows] == ids[:4] + ids[5:]
    assert [row.rollout_id for row in rows if not row.has_expert] == [ids[2], ids[11]]
    assert (context["num_without_verdict"], context["num_without_feedback"]) == (1, 2)
    assert all(row.expert_ids == [] for row in rows if not row.has_expert)
    train.body(copy, params(1), no_progress)
    with copy.train_curve_file(1).open(encoding="utf-8") as file:
        assert {row["without_verdict"] for row in csv.DictReader(file)} == {"1"}


def test_a_group_without_verdicts_does_not_end_training(copy: Workspace) -> None:
    """A batch that takes the whole table is as many rollouts smaller."""

    def change(index: int, row: Any) -> Any:
        return replace(row, reward=None, error="no verdict") if index in (3, 4, 5, 9) else row

    rewrite(copy.consultations_file(1), CONSULTATIONS, change)
    whole = {"batch_rollouts": 24}
    tabulate.body(copy, params(1), no_progress)
    train.body(copy, params(1, train=whole), no_progress)
    with copy.train_curve_file(1).open(encoding="utf-8") as file:
        curve = list(csv.DictReader(file))
    assert len(curve) == params(1).train.num_steps
    assert {row["without_verdict"] for row in curve} == {"4"}


def with_unreadable_references(copy: Workspace, num_problems: int) -> None:
    def change(index: int, row: Any) -> Any:
        return replace(row, reference="99") if index < num_problems else row

    rewrite(copy.problems_dir / "eval.parquet", PROBLEMS, change)


def test_an_evaluation_leaves_out_and_counts_what_has_no_verdict(copy: Workspace) -> None:
    """One problem that the verifier cannot read: 4 of 64 responses. All other figures, and the
    comparison with the parent, are those of the other problems."""
    before = read_rows(copy.evaluation_file(1), EVALUATION)
    with_unreadable_references(copy, 1)
    evaluate.body(copy, params(1), no_progress)
    rows = read_rows(copy.evaluation_file(1), EVALUATION)
    assert rows[1:] == before[1:]
    assert (rows[0].num_samples, rows[0].num_correct) == (0, 0)
    assert (rows[0].first_verdict, rows[0].expert_num_samples) == ("error", 0)
    metrics = json.loads(copy.metrics_file(1).read_text())
    counted = {"num_problems": 9, "num_without_verdict": 4, "num_problems_left_out": 1}
    assert {name: metrics[name] for name in counted} == counted
    seed = derive_seed(params(1).seed, "evaluate")
    others = summarise(before[1:], params(1).evaluate.num_bootstrap, seed)
    assert metrics == {"iteration": 1, **others} | {k: metrics[k] for k in counted}
    gate.body(copy, params(1), no_progress)
    differences = json.loads(copy.decision_file(1).read_text())["from_parent"]
    new, parent = (
        columns_of(evaluation_frame(read_rows(copy.evaluation_file(i), EVALUATION)[1:]))
        for i in (1, 0)
    )
    expected = paired_differences(new, parent, params(1).evaluate.num_bootstrap, seed)
    assert differences["pass_at_1"] == asdict(expected["pass_at_1"])


def test_an_evaluation_without_many_verdicts_ends_with_the_reason(copy: Workspace) -> None:
    with_unreadable_references(copy, 2)
    with pytest.raises(VerifierError, match=r"^8 of 64 responses have no verdict.*not of modulus"):
        evaluate.body(copy, params(1), no_progress)


def test_tables_that_do_not_belong_together(copy: Workspace) -> None:
    rewrite(
        copy.consultations_file(1),
        CONSULTATIONS,
        lambda index, row: replace(row, rollout_id=f"{index}"),
    )
    with pytest.raises(DataError, match=r"consultations are not of these rollouts.*run consult"):
        tabulate.body(copy, params(1), no_progress)
    rewrite(copy.rollouts_file(1), ROLLOUTS, lambda _, row: replace(row, problem_id="ffff"))
    with pytest.raises(DataError, match=r"is of problem ffff, which is not in .*sample again"):
        consult.body(copy, params(1), no_progress)


def test_no_verdict_at_all(copy: Workspace) -> None:
    rewrite(
        copy.consultations_file(1),
        CONSULTATIONS,
        lambda _, row: replace(row, reward=None, error="the sandbox is missing"),
    )
    with pytest.raises(DataError, match=r"none of 24 rollouts has a verdict.*sandbox is missing"):
        tabulate.body(copy, params(1), no_progress)


@pytest.mark.parametrize("stage", [base, evaluate])
def test_a_verifier_of_another_modulus_stops_the_campaign(copy: Workspace, stage: Any) -> None:
    other = {"verifier": {"name": "chain_arithmetic", "options": {"modulus": 5}}}
    with pytest.raises(VerifierError, match=r"not of modulus 5: .*options\.modulus must"):
        stage.body(copy, params(0, consult=other), no_progress)


def test_a_template_that_takes_none_of_the_feedback(copy: Workspace) -> None:
    context = {"expert_template": "{prompt}?{attempt}#{tool_output}|"}
    with pytest.raises(ConfigError, match=r"feedback of kind execution_trace, but .* takes none"):
        tabulate.body(copy, params(1, context=context), no_progress)


def test_contexts_that_are_too_long_are_said_and_nothing_is_written(copy: Workspace) -> None:
    before = all_files(copy)
    short = {"max_context_tokens": 6}
    for stage in (sample, evaluate):
        with pytest.raises(DataError, match=r"has 7 tokens, context\.max_context_tokens allows 6"):
            stage.body(copy, params(1, context=short), no_progress)
    short = {"max_context_tokens": 12}
    with pytest.raises(DataError, match=r"context\.max_context_tokens allows 12"):
        tabulate.body(copy, params(1, context=short), no_progress)
    assert all_files(copy) == before


def test_a_policy_with_another_tokenizer(copy: Workspace, compute: Any) -> None:
    model = load_model(copy.policy_dir(0), compute)
    model.resize_token_embeddings(100)
    save_policy(model, character_tokenizer("é"), copy.policy_dir(0))
    for stage in (tabulate, train):
        with pytest.raises(DataError, match="made with another tokenizer"):
            stage.body(copy, params(1), no_progress)


def test_a_failing_stage_leaves_the_policy_that_was_there(copy: Workspace) -> None:
    before = all_files(copy)
    # Infinite weight decay is refused by the settings; a huge rate is not.
    with pytest.raises(Exception, match="non-finite"):
        train.body(
            copy, params(1, train={"learning_rate": 1e30, "max_grad_norm": 1e30}), no_progress
        )
    assert all_files(copy) == before
