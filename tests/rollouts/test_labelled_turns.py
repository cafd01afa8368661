"""What the expert says of rollouts in turns, against plain forward passes (about 30 s; it needs the
environment's processes)."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from distil_core.config.models import (
    Component,
    ComputeParams,
    ContextParams,
    EnvironmentParams,
    TabulateParams,
)
from distil_core.engines.base import SamplingSettings
from distil_core.engines.transformers import TransformersEngine
from distil_core.experts import build_expert
from distil_core.feedback.contexts import ContextRenderer
from distil_core.policy.model import load_model, save_policy
from distil_core.problems.base import Problem
from distil_core.progress import no_progress
from distil_core.rollouts.rows import plan_rollouts, rollout_rows
from distil_core.rollouts.sampler import RolloutSampler
from distil_core.tables.schemas import (
    FEEDBACK,
    ROLLOUTS,
    ConsultationRow,
    FeedbackItem,
    FeedbackTableRow,
    RolloutRow,
)
from distil_core.tables.store import read_rows, write_shards, write_table
from distil_core.training.feedback_table import JudgedRollout, Labeller, judged_rollouts

END = 1
PROBLEMS = [Problem(f"{number}+{number}=", "0") for number in range(4)]
TABULATE = TabulateParams(
    expert=Component(name="self", options={"weights": "frozen", "batch_size": 5}),
    top_k=200,
    top_p=1.0,
    rows_per_shard=7,
)
VERDICT = FeedbackItem("execution_trace", "end")


def context(expert_sees: Literal["hindsight", "past"]) -> ContextParams:
    return ContextParams(
        student_template="{prompt}|",
        expert_template="{prompt}{attempt}?{verdict}#{tool_output}{execution_trace}|",
        max_context_tokens=150,
        environment=EnvironmentParams(
            name="turn_worlds.counting",
            max_turns=3,
            max_observation_tokens=7,
            observation_template="={observation};",
            expert_sees=expert_sees,
        ),
    )


@pytest.fixture(scope="module")
def policy_dir(ending_model: Any, tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that ends most of its turns, and knows positions enough."""
    folder = tmp_path_factory.mktemp("policy") / "policy-000"
    save_policy(ending_model(7, 4, max_positions=256), tokenizer, folder)
    return folder


@pytest.fixture(scope="module")
def rollouts(policy_dir: Path, tokenizer: Any, compute: ComputeParams) -> list[RolloutRow]:
    params = context("hindsight")
    renderer = ContextRenderer(params, tokenizer)
    contexts = {one.problem_id: renderer.student(one.prompt, "p").token_ids for one in PROBLEMS}
    planned = plan_rollouts(1, PROBLEMS, 6, contexts, 6)
    engine = TransformersEngine(load_model(policy_dir, compute), [END], 8)
    sampled = RolloutSampler(engine, tokenizer, params).sample(
        [one.problem for one in planned],
        [one.request for one in planned],
        SamplingSettings(8, 1.0, 1.0),
        no_progress,
    )
    # One that was cut in its first turn is a single response like any other.
    return [one for one in rollout_rows(1, planned, sampled) if one.turns]


def judged(
    rollouts: list[RolloutRow], tokenizer: Any, expert_sees: Literal["hindsight", "past"]
) -> list[JudgedRollout]:
    params = context(expert_sees)
    return judged_rollouts(
        rollouts,
        [ConsultationRow(one.rollout_id, 0.0, "wrong", (VERDICT,), None, None) for one in rollouts],
        {problem.problem_id: problem for problem in PROBLEMS},
        ContextRenderer(params, tokenizer),
    )


def labelled(
    found: list[JudgedRollout], policy_dir: Path, tokenizer: Any, compute: ComputeParams
) -> list[FeedbackTableRow]:
    expert = build_expert(TABULATE, policy_dir, compute, 200, policy_dir / "record", 1)
    labeller = Labeller(expert, ContextRenderer(context("hindsight"), tokenizer), TABULATE)
    return [row for shard in labeller.shards(found, no_progress) for row in shard]


def test_rollouts_in_turns_are_stored_as_they_were(
    rollouts: list[RolloutRow], tmp_path: Path
) -> None:
    assert {len(one.turns) for one in rollouts} >= {1, 2, 3}
    for one in rollouts:
        lengths = [turn.num_tokens + turn.num_observation_tokens for turn in one.turns]
        assert sum(lengths) == len(one.response_ids)
        assert sum(turn.num_tokens for turn in one.turns) == len(one.behaviour_logprobs)
        assert one.response == one.turns[-1].action
    path = tmp_path / "rollouts.parquet"
    write_table(path, ROLLOUTS, rollouts, {})
    found = read_rows(path, ROLLOUTS)
    assert [replace(one, behaviour_logprobs=()) for one in found] == [
        replace(one, behaviour_logprobs=()) for one in rollouts
    ]


@pytest.mark.parametrize("expert_sees", ["hindsight", "past"])
def test_the_experts_distributions_are_those_of_its_context_and_the_rollout_so_far(
    rollouts: list[RolloutRow],
    policy_dir: Path,
    tokenizer: Any,
    compute: ComputeParams,
    expert_sees: Literal["hindsight", "past"],
) -> None:
    """At every token of the policy's, after exactly the tokens that the student had there."""
    found = judged(rollouts, tokenizer, expert_sees)
    rows = labelled(found, policy_dir, tokenizer, compute)
    model = load_model(policy_dir, compute)
    for one, row in zip(found, rows, strict=True):
        expected = []
        for turn in one.turns:
            ids = [*turn.context.token_ids, *one.rollout.response_ids[: turn.stop]]
            with torch.inference_mode():
                logits = model(torch.tensor([ids]), use_cache=False).logits[0].double()
            length = turn.stop - turn.start
            expected.append(torch.log_softmax(logits[-length - 1 : -1], -1))
        expected_nv = torch.cat(expected).numpy()
        size = expected_nv.shape[1]
        np.testing.assert_array_equal(row.expert_counts, np.full(len(expected_nv), size))
        ids_nk = np.reshape(row.expert_ids, (-1, size))
        np.testing.assert_allclose(
            np.reshape(row.expert_logprobs, (-1, size)),
            np.take_along_axis(expected_nv, ids_nk, 1),
            atol=1e-4,
        )


def test_the_table_says_whose_tokens_are_whose(
    rollouts: list[RolloutRow],
    policy_dir: Path,
    tokenizer: Any,
    compute: ComputeParams,
    tmp_path: Path,
) -> None:
    rows = labelled(judged(rollouts, tokenizer, "hindsight"), policy_dir, tokenizer, compute)
    for rollout, row in zip(rollouts, rows, strict=True):
        lengths = list(row.turn_lengths)
        if len(rollout.turns) == 1:
            assert lengths == []
            assert list(row.turn_rewards) == []
            continue
        assert lengths[::2] == [turn.num_tokens for turn in rollout.turns]
        assert lengths[1::2] == [turn.num_observation_tokens for turn in rollout.turns[:-1]]
        marked = [number for number, turn in enumerate(rollout.turns) if turn.is_marked]
        assert list(row.marked_turns) == marked
        # The world rewards each turn after which the rollout goes on.
        rewards = [turn.reward for turn in rollout.turns]
        assert rewards == [0.25] * (len(rewards) - 1) + rewards[-1:]
        assert list(row.turn_rewards) == rewards
    write_shards(tmp_path / "feedback", FEEDBACK, [rows], {})
    assert len(read_rows(tmp_path / "feedback", FEEDBACK)) == len(rows)


def test_in_hindsight_every_turn_is_read_with_all_that_came_of_it(
    rollouts: list[RolloutRow], tokenizer: Any
) -> None:
    for one in judged(rollouts, tokenizer, "hindsight"):
        said = tuple(item for turn in one.rollout.turns for item in turn.feedback)
        assert {turn.feedback for turn in one.turns} == {(*said, VERDICT)}
        text = "".join(
            turn.action + (f"={turn.observation};" if turn.observation is not None else "")
            for turn in one.rollout.turns
        )
        assert {turn.context.values["attempt"] for turn in one.turns} == {text}


def test_of_the_past_alone_nothing_later_is_read(
    rollouts: list[RolloutRow], tokenizer: Any
) -> None:
    """The last turn is read with the verdict, which was said of it."""
    for one in judged(rollouts, tokenizer, "past"):
        turns = one.rollout.turns
        for number, (turn, read) in enumerate(zip(turns, one.turns, strict=True), start=1):
            is_last = number == len(turns)
            said = tuple(item for earlier in turns[:number] for item in earlier.feedback)
            assert read.feedback == ((*said, VERDICT) if is_last else said)
            assert read.context.values["verdict"] == ("wrong" if is_last else "")
            assert str(read.context.values["attempt"]).endswith(turn.action)
            later = [one.observation for one in turns[number - 1 :] if one.observation]
            assert not any(f"={text};" in read.context.values["attempt"] for text in later)


def test_a_turn_of_which_the_expert_reads_nothing_is_silent(
    rollouts: list[RolloutRow], policy_dir: Path, tokenizer: Any, compute: ComputeParams
) -> None:
    quiet = [
        replace(one, turns=(replace(one.turns[0], feedback=()), *one.turns[1:]))
        for one in rollouts
        if len(one.turns) > 1
    ]
    rows = labelled(judged(quiet, tokenizer, "past"), policy_dir, tokenizer, compute)
    for rollout, row in zip(quiet, rows, strict=True):
        first = rollout.turns[0].num_tokens
        assert row.has_expert
        assert not any(row.expert_counts[:first])
        assert np.isneginf(row.expert_tail_logprobs[:first]).all()
        assert all(row.expert_counts[first:])
