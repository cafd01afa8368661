"""All stages' bodies, one after another on a tiny campaign: what they write, twice (12 s)."""

import csv
import json
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pipeline_scratch import all_files, params, run_campaign

from distil_core.engines.base import SampledResponse
from distil_core.errors import ConfigError
from distil_core.evaluation.judging import judge_samples, problem_row
from distil_core.evaluation.summary import summarise
from distil_core.feedback.compose import render_student
from distil_core.policy.model import load_model
from distil_core.policy.tokenizer import (
    decode,
    encode_context,
    encode_text,
    load_tokenizer,
    tokenizer_digest,
)
from distil_core.problems.base import Problem
from distil_core.problems.choice import choose_problems
from distil_core.problems.store import read_problems
from distil_core.progress import no_progress
from distil_core.rollouts.sampled import SampledRollout
from distil_core.tables.schemas import (
    CONSULTATIONS,
    EVALUATION,
    FEEDBACK,
    ROLLOUTS,
    ConsultationRow,
)
from distil_core.tables.store import read_rows, read_table, shard_files
from distil_core.verifiers import build_verifier
from distil_core.workspace import Workspace
from distil_tasks import consult, problems, tabulate, train


def test_twice_the_same_bytes(campaign: Workspace, tmp_path: Path) -> None:
    """Weights, tables, metrics and curves; whatever the global random state is."""
    torch.manual_seed(123)
    np.random.seed(123)
    again = Workspace(tmp_path)
    run_campaign(again)
    expected, found = all_files(campaign), all_files(again)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    assert {name for name in expected if name.endswith("model.safetensors")} == {
        "data/policy-000/model.safetensors",
        *(
            f"data/iterations/00{iteration}/{folder}/model.safetensors"
            for iteration in (1, 2)
            for folder in ("policy", "handover")
        ),
    }


def test_files_lie_where_the_workspace_says(campaign: Workspace) -> None:
    policy = {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    splits = ("eval", "train", "warm_start", "generalisation")
    expected = {f"data/problems/{split}.parquet" for split in splits}
    expected |= {f"data/policy-000/{name}" for name in policy}
    for key in ("000", "001", "002"):
        folder = f"data/iterations/{key}"
        expected |= {f"{folder}/metrics.json", f"{folder}/evaluation.parquet"}
        expected |= {f"{folder}/pass_at_k.csv"}
        if key != "000":
            expected |= {f"{folder}/rollouts.parquet", f"{folder}/consultations.parquet"}
            expected |= {f"{folder}/train_curve.csv"}
            for copy in ("policy", "handover"):
                expected |= {f"{folder}/{copy}/{name}" for name in (*policy, "README.md")}
            expected |= {f"{folder}/decision.json"}
            expected |= {f"{folder}/{role}_evaluation.parquet" for role in ("champion", "handover")}
            expected |= {f"{folder}/feedback/part-{i:05d}.parquet" for i in range(3)}
    assert set(all_files(campaign)) == expected


def test_problems_are_disjoint_and_of_the_sizes_asked_for(campaign: Workspace) -> None:
    splits = {
        split: read_problems(campaign.problems_dir / f"{split}.parquet")
        for split in ("eval", "train", "warm_start", "generalisation")
    }
    assert {split: len(found) for split, found in splits.items()} == {
        "eval": 10,
        "train": 24,
        "warm_start": 40,
        "generalisation": 6,
    }
    assert len({problem.prompt for found in splits.values() for problem in found}) == 80
    longest = {split: max(len(p.prompt) for p in found) for split, found in splits.items()}
    assert longest == {"eval": 6, "train": 6, "warm_start": 6, "generalisation": 8}


def train_problems(workspace: Workspace) -> dict[str, Problem]:
    found = read_problems(workspace.problems_dir / "train.parquet")
    return {problem.problem_id: problem for problem in found}


@pytest.mark.parametrize("iteration", [1, 2])
def test_rollouts_are_whole_groups_in_order(campaign: Workspace, iteration: int) -> None:
    rows = read_rows(campaign.rollouts_file(iteration), ROLLOUTS)
    groups = [list(group) for _, group in groupby(rows, key=lambda row: row.problem_id)]
    assert [len(group) for group in groups] == [3] * 8
    assert all([row.sample_index for row in group] == [0, 1, 2] for group in groups)
    assert all(
        row.rollout_id == f"{iteration:03d}/{row.problem_id}/{row.sample_index}" for row in rows
    )
    assert len({row.rollout_id for row in rows}) == len({row.seed for row in rows}) == 24


def test_a_rollout_is_what_was_sampled(campaign: Workspace) -> None:
    """Ids as the model saw them, the text they spell, and the sampler's own probabilities."""
    _, context = read_table(campaign.rollouts_file(2), ROLLOUTS)
    tokenizer = load_tokenizer(campaign.policy_dir(1))
    assert context["tokenizer_digest"] == tokenizer_digest(tokenizer)
    assert context["iteration"] == 2
    model = load_model(campaign.policy_dir(1), params(2).compute)
    asked = train_problems(campaign)
    finished = set()
    for row in read_rows(campaign.rollouts_file(2), ROLLOUTS):
        prompt = asked[row.problem_id].prompt
        segments = render_student(params(2).context.student_template, prompt)
        assert row.context_ids == encode_context(tokenizer, segments)
        assert decode(tokenizer, row.response_ids) == row.response
        assert row.error is None
        ends = row.response_ids[-1] == tokenizer.eos_token_id
        assert row.finish_reason == ("stop" if ends else "length")
        finished.add(row.finish_reason)
        ids = torch.tensor([row.context_ids + row.response_ids])
        with torch.inference_mode():
            logprobs = torch.log_softmax(model(ids).logits[0].double(), -1)
        positions = torch.arange(len(row.context_ids) - 1, ids.shape[1] - 1)
        exact = logprobs[positions, torch.tensor(row.response_ids)]
        np.testing.assert_allclose(row.behaviour_logprobs, exact.numpy(), rtol=0, atol=1e-5)
    assert finished == {"stop", "length"}


def test_iterations_use_up_the_problems_before_any_returns(campaign: Workspace) -> None:
    first, second = (
        {row.problem_id for row in read_rows(campaign.rollouts_file(iteration), ROLLOUTS)}
        for iteration in (1, 2)
    )
    assert first.isdisjoint(second)
    everything = list(train_problems(campaign).values())
    chosen = [choose_problems(everything, 8, iteration, 5) for iteration in range(1, 7)]
    for epoch in (chosen[:3], chosen[3:]):
        assert len({problem.prompt for part in epoch for problem in part}) == 24
    assert chosen[0] != chosen[3]
    assert chosen == [choose_problems(everything, 8, i, 5) for i in range(1, 7)]
    assert len(choose_problems(everything, 7, 9, 5)) == 7


@given(st.lists(st.integers(1, 24), min_size=1, max_size=8), st.integers(1, 9))
@hypothesis_settings(deadline=None)
def test_no_problem_repeats_while_others_are_unused(sizes: list[int], steady: int) -> None:
    """Whatever the numbers are, once they have changed; while they are the same, as ever."""
    everything = [Problem(str(number), "") for number in range(24)]
    sizes = [sizes[0]] * steady + sizes[1:]
    uses = dict.fromkeys(everything, 0)
    for number, size in enumerate(sizes, start=1):
        chosen = choose_problems(everything, size, number, 5, sizes[: number - 1])
        assert len(set(chosen)) == len(chosen) == size
        if set(sizes[:number]) == {size}:
            assert chosen == choose_problems(everything, size, number, 5)
        else:
            left_out = [uses[problem] for problem in everything if problem not in chosen]
            assert max(uses[problem] for problem in chosen) <= min(left_out, default=99)
        for problem in chosen:
            uses[problem] += 1


def test_the_case_of_fewer_prompts_later() -> None:
    everything = [Problem(str(number), "") for number in range(100)]
    sizes = [10, 10, 10, 5]
    chosen = [
        problem
        for number, size in enumerate(sizes, start=1)
        for problem in choose_problems(everything, size, number, 0, sizes[: number - 1])
    ]
    assert len(set(chosen)) == len(chosen) == 35
    with pytest.raises(ConfigError, match="has 2 entries, iteration 4 has 3 before it"):
        choose_problems(everything, 5, 4, 0, [10, 10])


def test_consultations_follow_the_rollouts(campaign: Workspace) -> None:
    rollouts = read_rows(campaign.rollouts_file(1), ROLLOUTS)
    rows = read_rows(campaign.consultations_file(1), CONSULTATIONS)
    verifier, asked = build_verifier(params(1).consult), train_problems(campaign)
    verdicts = set()
    for rollout, row in zip(rollouts, rows, strict=True):
        verification = verifier.verify(asked[rollout.problem_id], rollout.response)
        truncated = rollout.finish_reason == "length"
        assert row == ConsultationRow(
            rollout_id=rollout.rollout_id,
            reward=0.0 if truncated else verification.reward,
            verdict="truncated" if truncated else verification.verdict,
            feedback=verification.feedback,
            isolation=verification.isolation,
            error=None,
        )
        verdicts.add(row.verdict)
    assert {"wrong", "truncated"} <= verdicts


def test_the_feedback_table_is_the_expert_at_the_students_states(campaign: Workspace) -> None:
    """Against a plain forward pass of the base policy over the expert's own context."""
    tokenizer, settings = load_tokenizer(campaign.policy_dir(0)), params(2).tabulate
    model = load_model(campaign.policy_dir(0), params(2).compute)
    rollouts = read_rows(campaign.rollouts_file(2), ROLLOUTS)
    consultations = read_rows(campaign.consultations_file(2), CONSULTATIONS)
    rows = read_rows(campaign.feedback_dir(2), FEEDBACK)
    asked = train_problems(campaign)
    for rollout, consultation, row in zip(rollouts, consultations, rows, strict=True):
        for name in ("rollout_id", "problem_id", "context_ids", "response_ids"):
            assert getattr(row, name) == getattr(rollout, name)
        assert row.behaviour_logprobs == rollout.behaviour_logprobs
        assert row.reward == consultation.reward
        assert row.has_expert
        prompt, trace = asked[row.problem_id].prompt, consultation.feedback[0].text
        text = f"{prompt}?{rollout.response}#{consultation.verdict} {trace}|"
        assert row.expert_context_ids == encode_text(tokenizer, text)
        assert row.expert_context_ids[-1] == row.context_ids[-1]
        ids = torch.tensor([row.expert_context_ids + row.response_ids])
        with torch.inference_mode():
            logits = model(ids).logits[0, len(row.expert_context_ids) - 1 : -1]
        masses = torch.softmax(logits.double(), -1).numpy()
        ends = np.cumsum(row.expert_counts)
        for t, (end, count) in enumerate(zip(ends, row.expert_counts, strict=True)):
            stored = row.expert_ids[end - count : end]
            order = np.argsort(-masses[t])
            fewest = int((masses[t][order].cumsum() < settings.top_p).sum()) + 1
            assert stored == order[: min(fewest, settings.top_k)].tolist()
            found = np.exp(row.expert_logprobs[end - count : end])
            np.testing.assert_allclose(found, masses[t][stored], rtol=1e-4)
            left = 1 - masses[t][stored].sum()
            assert np.exp(row.expert_tail_logprobs[t]) == pytest.approx(left, abs=1e-6)


def test_the_feedback_table_says_how_it_was_made(campaign: Workspace) -> None:
    _, context = read_table(campaign.feedback_dir(1), FEEDBACK)
    assert (context["num_rollouts"], context["num_without_verdict"]) == (24, 0)
    assert context["num_without_feedback"] == 0
    assert context["tabulate"]["top_k"] == 6
    assert context["tokenizer_digest"] == tokenizer_digest(load_tokenizer(campaign.policy_dir(0)))
    assert len(shard_files(campaign.feedback_dir(1))) == 3


def test_a_compact_table_is_the_exact_one_rounded(campaign: Workspace, copy: Workspace) -> None:
    compact = params(1, tabulate={"storage": "compact"})
    tabulate.body(copy, compact, no_progress)
    exact, exact_context = read_table(campaign.feedback_dir(1), FEEDBACK)
    rounded, context = read_table(copy.feedback_dir(1), FEEDBACK)
    assert "storage" not in exact_context["tabulate"], "tables made before it keep their bytes"
    assert context["tabulate"]["storage"] == "compact"
    changed = {"expert_logprobs", "expert_tail_logprobs"}
    for name in FEEDBACK.arrow.names:
        assert rounded[name].equals(exact[name]) == (name not in changed), name
    before, after = (
        np.concatenate(table["expert_logprobs"].to_pylist()) for table in (exact, rounded)
    )
    np.testing.assert_allclose(after, before, atol=1 / 16)
    np.testing.assert_allclose(np.exp(after), np.exp(before), atol=0.0005)
    train.body(copy, compact, no_progress)


def test_training_moves_every_weight_and_leaves_a_curve(campaign: Workspace) -> None:
    for iteration in (1, 2):
        parent, policy = (
            load_model(campaign.policy_dir(i), params(iteration).compute).state_dict()
            for i in (iteration - 1, iteration)
        )
        assert not any(torch.equal(parent[name], policy[name]) for name in parent)
        with campaign.train_curve_file(iteration).open() as file:
            curve = list(csv.DictReader(file))
        assert [row["step"] for row in curve] == ["0", "1", "2", "3", "4"]
        assert {"loss", "learning_rate", "gradient_norm", "cross_entropy"} <= curve[0].keys()
        assert float(curve[0]["learning_rate"]) == 0.001
        assert float(curve[-1]["learning_rate"]) == pytest.approx(0.0002)
        assert float(curve[0]["importance_weight"]) == pytest.approx(1, abs=1e-5)
        assert float(curve[0]["rollouts_with_expert"]) == 12


def test_metrics_are_those_of_the_evaluation_table(campaign: Workspace) -> None:
    for iteration in (0, 1, 2):
        metrics = json.loads(campaign.metrics_file(iteration).read_text())
        rows = read_rows(campaign.evaluation_file(iteration), EVALUATION)
        splits = {
            split: read_problems(campaign.problems_dir / f"{split}.parquet")
            for split in ("eval", "generalisation")
        }
        assert [(row.split, row.problem_id) for row in rows] == [
            (split, problem.problem_id) for split, found in splits.items() for problem in found
        ]
        assert metrics["iteration"] == iteration
        assert (metrics["num_problems"], metrics["num_samples"]) == (10, 4)
        for name, value in summarise(rows, 100, 0).items():
            if not name.endswith(("_low", "_high")):
                assert metrics[name] == pytest.approx(value, abs=1e-6), name
        for k in (1, 2, 4):
            assert metrics[f"pass_at_{k}_low"] <= metrics[f"pass_at_{k}"]
            assert metrics[f"pass_at_{k}"] <= metrics[f"pass_at_{k}_high"]


def test_progress_ends_at_its_total(copy: Workspace) -> None:
    for stage, iteration in ((problems, 0), (consult, 1), (tabulate, 1), (train, 1)):
        reported: list[tuple[int, int]] = []
        stage.body(copy, params(iteration), lambda *step, to=reported: to.append(step))
        assert reported[-1][0] == reported[-1][1]
        assert reported == sorted(reported)


@pytest.mark.parametrize(
    ("texts", "reasons", "expected"),
    [
        (["12", "12", "2", "11"], "ssss", {"num_correct": 2, "num_malformed": 1}),
        (["12", "12", "2", "11"], "lsll", {"num_correct": 1, "num_truncated": 3}),
        (
            ["", "1212", "12", "12"],
            "sssl",
            {"num_correct": 1, "num_malformed": 2, "num_truncated": 1},
        ),
    ],
)
def test_a_problems_row_counts_each_kind_of_response(
    tokenizer: Any, texts: list[str], reasons: str, expected: dict[str, int]
) -> None:
    samples = []
    for text, reason in zip(texts, reasons, strict=True):
        ids = encode_text(tokenizer, text)
        if reason == "s":
            samples.append(SampledResponse([*ids, tokenizer.eos_token_id], [0.0], "stop"))
        else:
            samples.append(SampledResponse(ids, [0.0], "length"))
    verifier = build_verifier(params(1).consult)
    problem = Problem("2+2-2=", "12")
    rollouts = [
        SampledRollout.of_response(sample, text)
        for sample, text in zip(samples, texts, strict=True)
    ]
    judged = judge_samples([problem] * len(samples), rollouts, verifier)
    row = problem_row(problem.problem_id, "eval", judged)
    zero = {"num_correct": 0, "num_malformed": 0, "num_truncated": 0}
    assert {name: getattr(row, name) for name in zero} == zero | expected
    assert row.num_samples == 4
    assert row.num_distinct == len(set(texts))
    assert row.first_response == texts[0]
    lengths = [len(sample.token_ids) for sample in samples]
    assert row.response_tokens_mean == sum(lengths) / 4
