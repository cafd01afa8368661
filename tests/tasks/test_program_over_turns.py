"""An iteration in an environment whose expert is a program: DAgger over turns, by the stages'
bodies, with its processes and the environment's (about 60 s)."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pipeline_scratch import CHANGES, all_files, params

from distil_core.config.models import IterationParams
from distil_core.policy.tokenizer import load_tokenizer
from distil_core.progress import no_progress
from distil_core.tables.schemas import CONTINUATIONS, FEEDBACK, ROLLOUTS, FeedbackTableRow
from distil_core.tables.store import read_rows
from distil_core.workspace import Workspace
from distil_tasks import base, consult, evaluate, problems, sample, tabulate, train

SOURCE = {
    "name": "tool_sums",
    "options": {"min_operations": 1, "max_operations": 3, "demonstrator_slip_probability": 0.3},
}


def settings(iteration: int, num_workers: int = 1, **options: Any) -> IterationParams:
    program = {"name": "turn_oracle", "options": {"source": SOURCE}}
    return params(
        iteration,
        problems={"source": SOURCE, "generalisation": None},
        base={
            "architecture": CHANGES["base"]["architecture"] | {"max_positions": 120},
            "phases": [{"num_steps": 60, "correction_fraction": 0.0}],
            "layout": "padded",
        },
        context={
            "student_template": "{prompt}|",
            "expert_template": "{prompt}?{execution_trace}|",
            "max_context_tokens": 32,
            "environment": {
                "name": "tool_sums",
                "max_turns": 4,
                "max_observation_tokens": 5,
                "observation_template": "{observation}|",
                "expert_sees": "past",
            },
        },
        sample={"num_prompts": 12, "num_rollouts": 4, "max_new_tokens": 6},
        consult={"verifier": {"name": "exact_text"}},
        tabulate={
            "expert": {
                "name": "program",
                "options": {"program": program, "num_workers": num_workers} | options,
            },
        },
        evaluate={"num_samples": 2, "num_expert_samples": 0, "max_new_tokens": 6},
    )


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """An iteration in turns. Read only: tests that change it copy it."""
    made = Workspace(tmp_path_factory.mktemp("turns"))
    torch.set_num_threads(1)
    for stage in (problems, base):
        stage.body(made, settings(0), no_progress)
    for stage in (sample, consult, tabulate, train, evaluate):
        stage.body(made, settings(1), no_progress)
    return made


def labels(row: FeedbackTableRow) -> list[int | None]:
    """The only label of each state; None where there is none."""
    ids = iter(row.expert_ids)
    assert set(row.expert_counts) <= {0, 1}
    return [next(ids) if count else None for count in row.expert_counts]


def test_the_label_of_every_state_of_every_turn_is_what_was_right_there(
    workspace: Workspace,
) -> None:
    """The environment, which keeps its own account of a rollout, wrote each turn's right action
    into its trace: the label after n tokens is the action's n-th character, and then the end."""
    tokenizer = load_tokenizer(workspace.policy_dir(0))
    rollouts = read_rows(workspace.rollouts_file(1), ROLLOUTS)
    rows = {row.rollout_id: row for row in read_rows(workspace.feedback_dir(1), FEEDBACK)}
    num_wrong = 0
    for rollout in rollouts:
        row = rows[rollout.rollout_id]
        expected: list[int] = []
        for turn in rollout.turns:
            # One that was cut was never done, and so has no trace.
            if not turn.feedback:
                break
            [trace] = turn.feedback
            right = tokenizer.convert_tokens_to_ids(list(trace.text))
            num_wrong += trace.text != turn.action
            expected += [*right, *[tokenizer.eos_token_id] * turn.num_tokens][: turn.num_tokens]
        found = labels(row)
        assert found[: len(expected)] == expected
        assert len(found) == sum(turn.num_tokens for turn in rollout.turns) or not rollout.turns
        np.testing.assert_array_equal(row.expert_logprobs, 0.0)
        # The tokens that follow one another are the policy's and the environment's, untouched.
        assert list(row.response_ids) == list(rollout.response_ids)
    assert {len(rollout.turns) for rollout in rollouts} >= {1, 2, 3, 4}
    assert num_wrong > 10


def test_the_student_learns_from_it(workspace: Workspace) -> None:
    weights = [
        workspace.policy_dir(number).joinpath("model.safetensors").read_bytes() for number in (0, 1)
    ]
    assert weights[0] != weights[1]
    curve = workspace.train_curve_file(1).read_text(encoding="utf-8").splitlines()
    column = curve[0].split(",").index("loss")
    losses = [float(line.split(",")[column]) for line in curve[1:]]
    assert np.isfinite(losses).all()
    assert any(losses)
    assert json.loads(workspace.metrics_file(1).read_text(encoding="utf-8"))["pass_at_1"] >= 0


def test_any_number_of_workers_and_a_rerun_make_the_same_bytes(
    workspace: Workspace, tmp_path: Path
) -> None:
    shutil.copytree(workspace.root, tmp_path / "again")
    again = Workspace(tmp_path / "again")
    before, rows = files(again), read_rows(again.feedback_dir(1), FEEDBACK)
    recorded = {"expert_counts.json", "expert_failures.jsonl", "program_answers.jsonl"}
    assert recorded < {Path(name).name for name in before}
    # From the record, then anew, then by two.
    for num_workers in (1, 1, 2):
        shutil.rmtree(again.feedback_dir(1))
        tabulate.body(again, settings(1, num_workers), no_progress)
        after = files(again)
        if num_workers == 1:
            assert after == before
        # A Parquet file's metadata has the settings, and so the number of workers.
        for name in (name for name in before if Path(name).name in recorded):
            assert after[name] == before[name]
        assert read_rows(again.feedback_dir(1), FEEDBACK) == rows
        shutil.rmtree(again.expert_record_dir)


def files(workspace: Workspace) -> dict[str, bytes]:
    folder = workspace.relative(workspace.feedback_dir(1))
    return {name: text for name, text in all_files(workspace).items() if name.startswith(folder)}


def test_what_it_writes_on_in_a_later_turn_follows_all_that_came_before(
    workspace: Workspace, tmp_path: Path
) -> None:
    shutil.copytree(workspace.root, tmp_path / "rows")
    other = Workspace(tmp_path / "rows")
    changed = settings(1, continuations_per_rollout=9, share_of_states=0.4)
    tabulate.body(other, changed, no_progress)
    rollouts = {one.rollout_id: one for one in read_rows(other.rollouts_file(1), ROLLOUTS)}
    written = read_rows(other.feedback_dir(1) / "continuations", CONTINUATIONS)
    by_rollout: dict[str, int] = {}
    in_later_turns = 0
    for row in written:
        rollout = rollouts[row.rollout_id]
        by_rollout[row.rollout_id] = by_rollout.get(row.rollout_id, 0) + 1
        place = len(row.context_ids) - len(rollout.context_ids)
        assert row.context_ids == [*rollout.context_ids, *rollout.response_ids[:place]]
        in_later_turns += bool(rollout.turns) and place > rollout.turns[0].num_tokens
    assert in_later_turns > 5
    assert max(by_rollout.values()) <= 9
    train.body(other, changed, no_progress)
