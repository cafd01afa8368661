"""Stages with every source of feedback, expert and table that the default campaign leaves off.

Real stages on a small campaign, made once (about 12 s).
"""

import importlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from distil_core.campaign import parse_iteration_params
from distil_core.campaign.chain import expert_dependency, expert_policy_dir, require_history
from distil_core.config.models import Component
from distil_core.errors import ConfigError, DataError
from distil_core.evaluation.handover import hand_over
from distil_core.feedback.sources import gather
from distil_core.feedback.sources.base import Attempt, SourceSetting
from distil_core.policy.tokenizer import encode_text
from distil_core.problems.base import Problem
from distil_core.progress import no_progress
from distil_core.tables.schemas import (
    CONSULTATIONS,
    CONTINUATIONS,
    FEEDBACK,
    ROLLOUTS,
    FeedbackItem,
)
from distil_core.tables.store import read_rows, read_table
from distil_core.training.feedback_rows import read_feedback, read_feedback_tables
from distil_core.workspace import Workspace

PROJECT = Path(__file__).parents[2]
sys.path.insert(0, str(PROJECT / "tests" / "experts"))

from local_endpoint import LocalEndpoint  # noqa: E402

Values = dict[str, Any]


def small_settings() -> Values:
    values: Values = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    values["problems"] |= {"num_warm_start": 60, "num_train": 40, "num_eval": 4}
    values["problems"]["generalisation"] = None
    values["problems"]["source"]["options"] |= {"num_operations": 2, "modulus": 3}
    values["consult"]["verifier"]["options"]["modulus"] = 3
    values["base"]["phases"] = [{"num_steps": 60, "correction_fraction": 0.2}]
    values["base"]["batch_size"] = 64
    values["sample"] |= {"num_prompts": 12, "max_new_tokens": 4}
    values["train"] |= {"num_steps": 3, "batch_rollouts": 24}
    return values


def run_stage(name: str, workspace: Workspace, values: Values, iteration: int) -> None:
    params = parse_iteration_params({**values, "iteration": iteration, "stage_versions": {}}, "t")
    importlib.import_module(f"distil_tasks.{name}").body(workspace, params, no_progress)
    if name == "train":
        # What a gate that promotes it does, without an evaluation.
        policy_dir = workspace.policy_dir(iteration)
        hand_over(policy_dir, policy_dir, workspace.handover_dir(iteration))


def run_stages(names: str, workspace: Workspace, values: Values, *iterations: int) -> None:
    for iteration in iterations:
        for name in names.split():
            run_stage(name, workspace, values, iteration)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Problems, a base policy, and the rollouts of iteration 1."""
    root = tmp_path_factory.mktemp("campaign")
    run_stages("problems base", Workspace(root), small_settings(), 0)
    run_stages("sample", Workspace(root), small_settings(), 1)
    return root


@pytest.fixture
def workspace(prepared: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(prepared, tmp_path / "workspace")
    return Workspace(tmp_path / "workspace")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_all_feedback_there_is_reaches_the_experts_context(workspace: Workspace) -> None:
    values = small_settings()
    values["context"] |= {
        "expert_template": "{prompt}?{attempt}#{verdict} {execution_trace} {expert_correction}"
        " {self_evaluation} {peer_solution}|",
        "max_context_tokens": 110,
        "shorten": [{"field": "self_evaluation", "keep": "start"}],
        "shortening_marker": "~",
    }
    values["base"]["architecture"]["max_positions"] = 128
    values["consult"] |= {
        "reveal": "expected_outputs",
        "reference_correction": True,
        "peer_solution": True,
        "self_evaluation": {
            "template": "{prompt} {attempt}!?|",
            "correct_pattern": "^[012]*$",
            "on_disagreement": "note",
            "max_new_tokens": 3,
            "temperature": 1.0,
            "top_p": 1.0,
        },
    }
    run_stages("consult tabulate", workspace, values, 1)
    table, context = read_table(workspace.consultations_file(1), CONSULTATIONS)
    rollouts = {row.rollout_id: row for row in read_rows(workspace.rollouts_file(1), ROLLOUTS)}
    rows = CONSULTATIONS.to_rows(table)
    correct = {row.rollout_id for row in rows if row.verdict == "correct"}
    assert 0 < len(correct) < len(rows)
    held = set(context["self_evaluation"]["held_correct"])
    counted = {name: n for name, n in context["self_evaluation"].items() if name != "held_correct"}
    ids = {row.rollout_id for row in rows}
    assert counted == {
        "both_correct": len(held & correct),
        "only_own_correct": len(held - correct),
        "only_tools_correct": len(correct - held),
        "both_wrong": len(ids - held - correct),
    }
    with_peer = 0
    for row in rows:
        items = {item.kind: item.text for item in row.feedback}
        problem_id = rollouts[row.rollout_id].problem_id
        peers = [
            rollouts[other].response
            for other in correct - {row.rollout_id}
            if rollouts[other].problem_id == problem_id
        ]
        # A rollout's own success is never its own demonstration.
        assert ("peer_solution" in items) == bool(peers)
        if peers:
            with_peer += 1
            assert items["peer_solution"] in peers
        disagrees = (row.rollout_id in held) != (row.rollout_id in correct)
        assert items["self_evaluation"].endswith("(A tool finds the attempt wrong.)") == (
            disagrees and row.verdict == "wrong"
        )
        assert len(items["expert_correction"]) == 2
    assert context["num_with_peer"] == with_peer
    _, feedback_context = read_table(workspace.feedback_dir(1), FEEDBACK)
    shortened = feedback_context["num_shortened"]
    assert shortened["contexts"] == shortened.get("self_evaluation", 0)


def test_shortened_contexts_are_counted_wherever_they_are_made(workspace: Workspace) -> None:
    values = small_settings()
    values["context"] |= {
        "max_context_tokens": 20,
        "shorten": [{"field": "prompt", "keep": "end"}],
        "shortening_marker": "~",
    }
    values["evaluate"] |= {"num_samples": 1, "max_new_tokens": 4, "num_bootstrap": 100}
    # The expert would read contexts with longer verdicts, which these limits do not fit.
    values["evaluate"]["num_expert_samples"] = 0
    values["gate"]["margins"] = {"pass_at_1": 0.02}
    run_stages("sample consult tabulate train evaluate", workspace, values, 1)
    rows, context = read_table(workspace.rollouts_file(1), ROLLOUTS)
    # Prompts of six characters fit the student's context, not the expert's.
    assert context["num_shortened"] == {"contexts": 0}
    rows, context = read_table(workspace.feedback_dir(1), FEEDBACK)
    counted = context["num_shortened"]["prompt"]
    assert counted == sum(len(ids) == 20 for ids in rows["expert_context_ids"].to_pylist()) > 0
    header, first, *_ = workspace.train_curve_file(1).read_text().splitlines()
    assert dict(zip(header.split(","), first.split(","), strict=True))["shortened_contexts"] == str(
        counted
    )
    assert json.loads(workspace.metrics_file(1).read_text())["shortened_contexts"] == 0


def test_a_solution_that_only_its_own_rollout_has_is_nobodys_peer(
    workspace: Workspace,
) -> None:
    one, other = Problem("a", "12"), Problem("b", "12")
    attempts = [
        Attempt("a/0", one, "12", "correct"),
        Attempt("a/1", one, "11", "wrong"),
        Attempt("b/0", other, "<|end|>{prompt}", "correct"),
    ]
    setting = SourceSetting(1, lambda: pytest.fail("asked the policy"), no_progress)
    gathered = gather([Component(name="peer_solution")], attempts, attempts, setting)
    assert gathered.items == [(), (FeedbackItem("peer_solution", "12"),), ()]
    assert gathered.report == {"num_with_peer": 1}


def test_the_reference_is_shown_only_where_answers_may_be_revealed() -> None:
    values = small_settings()
    values["consult"]["reference_correction"] = True
    with pytest.raises(ConfigError, match="set reveal to expected_outputs"):
        parse_iteration_params({**values, "iteration": 1, "stage_versions": {}}, "t")


def test_rollouts_of_another_template_are_refused(workspace: Workspace) -> None:
    """The response would follow another token in the expert's context than in the student's."""
    values = small_settings()
    values["context"] |= {
        "student_template": "{prompt}+",
        "expert_template": "{prompt}?{execution_trace}+",
    }
    run_stages("consult", workspace, values, 1)
    with pytest.raises(DataError, match=r"a context ends in tokens .*another template"):
        run_stages("tabulate", workspace, values, 1)
    assert not workspace.feedback_dir(1).exists()


def test_a_sharper_expert_is_said_in_the_tables_metadata(workspace: Workspace) -> None:
    values = small_settings()
    run_stages("consult tabulate", workspace, values, 1)
    plain = read_rows(workspace.feedback_dir(1), FEEDBACK)
    assert "expert_temperature" not in read_table(workspace.feedback_dir(1), FEEDBACK)[1]
    values["tabulate"]["expert"]["options"]["temperature"] = 0.25
    run_stages("tabulate", workspace, values, 1)
    table, context = read_table(workspace.feedback_dir(1), FEEDBACK)
    assert context["expert_temperature"] == 0.25
    assert context["tabulate"]["expert"]["options"]["temperature"] == 0.25
    for one, other in zip(plain, FEEDBACK.to_rows(table), strict=True):
        starts = [np.cumsum([0, *row.expert_counts])[:-1] for row in (one, other)]
        for first, second in zip(*starts, strict=True):
            assert one.expert_ids[first] == other.expert_ids[second]
            assert other.expert_logprobs[second] > one.expert_logprobs[first] - 1e-6


def test_the_average_is_saved_with_each_policy_and_taken_up_exactly(workspace: Workspace) -> None:
    values = small_settings()
    values["train"]["average_decay"] = 0.75
    values["tabulate"]["expert"]["options"]["weights"] = "ema"
    run_stages("consult tabulate train", workspace, values, 1)
    run_stages("sample consult tabulate", workspace, values, 2)
    params = parse_iteration_params({**values, "iteration": 2, "stage_versions": {}}, "t")
    assert (
        expert_policy_dir(workspace, 2, params.tabulate.expert)
        == workspace.handover_dir(1) / "average"
    )
    assert expert_dependency(workspace, 2, params.tabulate.expert) == "data/iterations/001/handover"
    # Exactly 1 - decay of each step's weights, by hand from the recorded trajectory's two ends
    # of one step; then the second iteration goes on from the saved bits.
    one_step = small_settings()
    one_step["train"] |= {"average_decay": 0.75, "num_steps": 1}
    shutil.rmtree(workspace.policy_dir(1))
    run_stages("train", workspace, one_step, 1)
    base, new = weights(workspace.policy_dir(0)), weights(workspace.policy_dir(1))
    average = weights(workspace.average_dir(1))
    for name, value in average.items():
        torch.testing.assert_close(value, base[name].lerp(new[name], 0.25), rtol=0, atol=0)
    run_stages("train", workspace, one_step, 2)
    newer, second = weights(workspace.policy_dir(2)), weights(workspace.average_dir(2))
    for name, value in second.items():
        torch.testing.assert_close(value, average[name].lerp(newer[name], 0.25), rtol=0, atol=0)
    # Keeping it changes nothing of the policy itself.
    without = small_settings()
    without["train"]["num_steps"] = 1
    run_stages("train", workspace, without, 2)
    for name, value in weights(workspace.policy_dir(2)).items():
        assert torch.equal(value, newer[name])


def test_the_average_must_have_been_kept() -> None:
    values = small_settings()
    values["tabulate"]["expert"]["options"]["weights"] = "ema"
    frozen = [
        parse_iteration_params({**values, "iteration": i, "stage_versions": {}}, "t")
        for i in range(3)
    ]
    require_history(frozen[1], frozen.__getitem__)
    with pytest.raises(ConfigError, match=r"iteration 2 needs the average that iteration 1"):
        require_history(frozen[2], frozen.__getitem__)


def test_training_on_all_tables_so_far(workspace: Workspace) -> None:
    values = small_settings()
    values["train"]["num_tables"] = "all"
    run_stages("consult tabulate train", workspace, values, 1)
    run_stages("sample consult tabulate train", workspace, values, 2)
    digest = read_table(workspace.rollouts_file(1), ROLLOUTS)[1]["tokenizer_digest"]
    folders = [workspace.feedback_dir(1), workspace.feedback_dir(2)]
    both = read_feedback_tables(folders, digest)
    single = [read_feedback(folder, digest) for folder in folders]
    assert len(both) == len(single[0]) + len(single[1])
    assert len(both.groups) == len(single[0].groups) + len(single[1].groups)
    np.testing.assert_array_equal(
        both.row(len(single[0])).behaviour_logprobs_t, single[1].row(0).behaviour_logprobs_t
    )
    # The same problem in two tables is two groups: two policies sampled it.
    twice = read_feedback_tables([folders[0], folders[0]], digest)
    assert len(twice.groups) == 2 * len(single[0].groups)
    # Both are trained on, not just listed.
    from_both = weights(workspace.policy_dir(2))
    run_stages("train", workspace, values | {"train": values["train"] | {"num_tables": 1}}, 2)
    from_one = weights(workspace.policy_dir(2))
    assert not any(torch.equal(from_both[name], value) for name, value in from_one.items())
    run_stages("train", workspace, values, 2)
    listed = json.loads((workspace.policy_dir(2) / "feedback_tables.json").read_text())
    assert list(listed) == ["data/iterations/001/feedback", "data/iterations/002/feedback"]
    # Another version of an older table is refused: the parent policy was trained on this one.
    values["tabulate"]["top_k"] = 3
    run_stages("tabulate", workspace, values, 1)
    with pytest.raises(DataError, match=r"001/feedback has digest .*dvc checkout"):
        run_stages("train", workspace, values, 2)
    # A new parent policy knows it, and differs, so that DVC trains the next one anew.
    before = (workspace.policy_dir(1) / "feedback_tables.json").read_bytes()
    run_stages("train", workspace, values, 1)
    assert (workspace.policy_dir(1) / "feedback_tables.json").read_bytes() != before
    run_stages("train", workspace, values, 2)


def test_a_window_of_tables(workspace: Workspace) -> None:
    values = small_settings()
    values["train"]["num_tables"] = 2
    run_stages("consult tabulate train", workspace, values, 1)
    run_stages("sample consult tabulate train", workspace, values, 2, 3)
    listed = json.loads((workspace.policy_dir(3) / "feedback_tables.json").read_text())
    assert len(listed) == 3
    # The first table left the window: nobody reads it any more.
    shutil.rmtree(workspace.feedback_dir(1))
    run_stages("train", workspace, values, 3)


def test_tables_that_were_not_listed_cannot_be_reached() -> None:
    plain, values = small_settings(), small_settings()
    values["train"]["num_tables"] = 2
    frozen = [
        parse_iteration_params({**chosen, "iteration": i, "stage_versions": {}}, "t")
        for i, chosen in enumerate([plain, plain, values, values])
    ]
    require_history(frozen[1], frozen.__getitem__)
    require_history(frozen[3], frozen.__getitem__)
    with pytest.raises(ConfigError, match=r"of iteration 2 reaches back to iteration 1"):
        require_history(frozen[2], frozen.__getitem__)


@pytest.fixture
def black_box(workspace: Workspace) -> Any:
    """Settings with a real endpoint as expert, which always writes `12`."""
    values = small_settings()

    def settings(url: str, **changed: Any) -> Values:
        values["tabulate"]["expert"] = {
            "name": "black_box",
            "options": {
                "base_url": url,
                "api": "completions",
                "model": "local",
                "template": "{prompt}{execution_trace}|{response}",
                "num_samples": 1,
                "temperature": 0.0,
                "max_new_tokens": 8,
                "max_requests": 1000,
                "max_tokens": None,
            }
            | changed,
        }
        return values

    return settings


def test_black_box_labels_and_continuations_are_trained_on(
    workspace: Workspace, black_box: Callable[..., Values], tokenizer: Any
) -> None:
    with LocalEndpoint(lambda body: ("12", "stop")) as endpoint:
        values = black_box(endpoint.url, states_per_rollout=2, continuations_per_rollout=1)
        run_stages("consult tabulate", workspace, values, 1)
        first = {p.name: p.read_bytes() for p in workspace.feedback_dir(1).rglob("*.*")}
        num_sent = len(endpoint.seen)
    # The endpoint is gone: the table is made again from the record, bit for bit.
    shutil.rmtree(workspace.feedback_dir(1))
    run_stages("tabulate", workspace, values, 1)
    assert first == {p.name: p.read_bytes() for p in workspace.feedback_dir(1).rglob("*.*")}
    counts = json.loads((workspace.feedback_dir(1) / "expert_counts.json").read_text())
    assert counts["requests"] == num_sent
    rows = read_rows(workspace.feedback_dir(1), FEEDBACK)
    assert all(sum(count > 0 for count in row.expert_counts) <= 2 for row in rows)
    continuations = read_rows(workspace.feedback_dir(1) / "continuations", CONTINUATIONS)
    assert len(continuations) == len(rows)
    by_id = {row.rollout_id: row for row in rows}
    for row in continuations:
        student = by_id[row.rollout_id]
        whole = [*student.context_ids, *student.response_ids]
        assert row.context_ids == whole[: len(row.context_ids)]
        assert row.response_ids[:2] == encode_text(tokenizer, "12")
    digest = read_table(workspace.feedback_dir(1), FEEDBACK)[1]["tokenizer_digest"]
    read = read_feedback(workspace.feedback_dir(1), digest)
    assert [read.row(i).by_expert for i in range(len(read))] == [False] * len(rows) + [True] * len(
        rows
    )
    run_stages("train", workspace, values, 1)


def test_rollouts_of_which_the_black_box_says_nothing_are_rows_without_expert(
    workspace: Workspace, black_box: Callable[..., Values]
) -> None:
    silent: set[str] = set()

    def refuses_some(body: dict[str, Any]) -> tuple[str | None, str]:
        prompt = body["prompt"].partition("|")[0]
        return (None, "content_filter") if prompt in silent else ("12", "stop")

    with LocalEndpoint(refuses_some) as endpoint:
        values = black_box(endpoint.url, states_per_rollout=2)
        run_stages("consult", workspace, values, 1)
        run_stages("tabulate", workspace, values, 1)
        prompts = sorted({body["prompt"].partition("|")[0] for _, _, body, _ in endpoint.seen})
        silent.update(prompts[::2])
        shutil.rmtree(workspace.expert_record_dir)
        shutil.rmtree(workspace.feedback_dir(1))
        run_stages("tabulate", workspace, values, 1)
    rows = read_rows(workspace.feedback_dir(1), FEEDBACK)
    without = [row for row in rows if not row.has_expert]
    assert 0 < len(without) < len(rows)
    assert all(row.expert_counts == [] for row in without)
    counts = json.loads((workspace.feedback_dir(1) / "expert_counts.json").read_text())
    assert counts["silent_rollouts"] == len(without)
    run_stages("train", workspace, values, 1)


def test_experts_from_outside_are_a_dependency_of_their_own(workspace: Workspace) -> None:
    values = small_settings()
    values["tabulate"]["expert"] = {
        "name": "white_box",
        "options": {
            "path": str(workspace.policy_dir(0)),
            "batch_size": 256,
            "layout": "prefix_tree",
        },
    }
    params = parse_iteration_params({**values, "iteration": 1, "stage_versions": {}}, "t")
    assert expert_dependency(workspace, 1, params.tabulate.expert) == str(workspace.policy_dir(0))
    run_stages("consult tabulate", workspace, values, 1)
    white_box = read_rows(workspace.feedback_dir(1), FEEDBACK)
    run_stages("tabulate", workspace, small_settings(), 1)
    assert white_box == read_rows(workspace.feedback_dir(1), FEEDBACK)


OBJECTIVES: dict[str, Values] = {
    "behaviour_cloning": {},
    "blend": {"reward_weight": 0.5},
    "forward_cross_entropy": {},
    "jensen_shannon": {},
    "reverse_kl": {},
    "sampled_reverse_kl": {},
}


def test_a_program_labels_rollouts_for_each_objective(workspace: Workspace) -> None:
    values = small_settings()
    values["tabulate"]["expert"] = {
        "name": "program",
        "options": {
            "program": {
                "name": "source_oracle",
                "options": {"source": values["problems"]["source"]},
            },
            "continuations_per_rollout": 1,
        },
    }
    run_stages("consult tabulate", workspace, values, 1)
    first = {p.name: p.read_bytes() for p in workspace.feedback_dir(1).rglob("*.*")}
    assert {"program_answers.jsonl", "expert_failures.jsonl"} <= first.keys()
    rows = read_rows(workspace.feedback_dir(1), FEEDBACK)
    assert all(row.has_expert and all(count == 1 for count in row.expert_counts) for row in rows)
    # The same labels as the oracle's, which is asked in another way.
    oracle = small_settings()
    oracle["tabulate"]["expert"] = {
        "name": "oracle",
        "options": {"source": values["problems"]["source"], "label_smoothing": 0.0},
    }
    run_stages("tabulate", workspace, oracle, 1)
    expected = read_rows(workspace.feedback_dir(1), FEEDBACK)
    assert [row.expert_ids for row in rows] == [row.expert_ids for row in expected]
    # Again from the record, bit for bit: nothing is asked.
    shutil.rmtree(workspace.feedback_dir(1))
    run_stages("tabulate", workspace, values, 1)
    assert first == {p.name: p.read_bytes() for p in workspace.feedback_dir(1).rglob("*.*")}
    for name, options in OBJECTIVES.items():
        values["train"]["objective"] = {"name": name, "options": options}
        run_stages("train", workspace, values, 1)
        curve = (workspace.train_curve_file(1)).read_text().splitlines()
        column = curve[0].split(",").index("loss")
        losses = [float(line.split(",")[column]) for line in curve[1:]]
        assert len(losses) == 3, name
        assert np.isfinite(losses).all(), name
        assert any(losses), name
