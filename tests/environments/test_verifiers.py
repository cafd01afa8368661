"""Environments of the verifiers library: played, judged, replayed and refused (30 s)."""

import importlib.metadata
import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest

from distil_core.config.models import EnvironmentParams
from distil_core.environments import build_environment
from distil_core.environments.base import Environment, FeedbackItem, Step
from distil_core.errors import ConfigError, DataError, EnvironmentFault
from distil_core.problems import PROBLEM_SOURCES
from distil_core.problems.base import Problem
from distil_core.problems.messages import Message, prompt_of
from distil_core.problems.splits import make_splits
from distil_core.testing import check_environment, check_problem_source

pytest.importorskip("verifiers.v1", reason="the extra verifiers is not installed")

VERSIONS = {"verifiers": importlib.metadata.version("verifiers")}
SUMS: dict[str, Any] = {"taskset": "lab_single_turn_taskset", "versions": VERSIONS}
GUESSES: dict[str, Any] = {"taskset": "lab-guessing-game", "versions": VERSIONS}
NEEDY: dict[str, Any] = {"taskset": "lab_undrivable_taskset", "versions": VERSIONS}
OPEN: list[Environment] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


def problems(options: dict[str, Any], count: int, split: str = "train") -> list[Problem]:
    return list(islice(PROBLEM_SOURCES.build("verifiers", options).problems(split, 3), count))


def environment(options: dict[str, Any], **more: Any) -> Environment:
    params = EnvironmentParams(
        name="verifiers", options={**options, **more}, max_turns=4, max_observation_tokens=64
    )
    OPEN.append(build_environment(params))
    return OPEN[-1]


def test_a_taskset_that_ends_becomes_problems_in_an_order_of_the_seed() -> None:
    found = problems(SUMS, 100)
    assert len(found) == 20
    assert {problem.prompt for problem in found} == {
        f"Only the number.\n\n{number}+1=" for number in range(10, 30)
    }
    assert [p.prompt for p in found] != sorted(p.prompt for p in found)
    first = found[0]
    sum_ = first.prompt.rpartition("\n")[2]
    assert prompt_of(first) == (Message("system", "Only the number."), Message("user", sum_))
    assert first.reference == str(int(sum_.partition("+")[0]) + 1)
    held_out = problems(SUMS, 100, "eval")
    assert held_out != found
    assert set(held_out) == set(found)


def test_splits_of_one_taskset_are_disjoint_and_of_two_settings_are_their_own() -> None:
    source = PROBLEM_SOURCES.build("verifiers", SUMS)
    splits = make_splits(source, {"eval": 5, "train": 15, "warm_start": 0}, seed=1)
    assert len({one.prompt for split in splits.values() for one in split}) == 20
    held_out = problems({**SUMS, "eval_arguments": {"split": "test"}}, 100, "eval")
    assert {p.reference for p in held_out} == {str(number) for number in range(51, 71)}


def test_one_reply_is_judged_by_weighted_rewards() -> None:
    world = environment(SUMS, shown_scores=["is_number", "num_characters"])
    problem = problems(SUMS, 1)[0]
    world.start(problem, seed=0)
    assert world.step(problem.reference) == Step(
        None, 1.0, "correct", (FeedbackItem("tool_output", "is_number: 1\nnum_characters: 2"),)
    )
    world.start(problem, seed=0)
    assert world.step("123") == Step(
        None, 0.25, "wrong", (FeedbackItem("tool_output", "is_number: 1\nnum_characters: 3"),)
    )


def test_several_turns_until_the_answer() -> None:
    world = environment(GUESSES, reward_range=[-1.0, 1.0])
    problem = problems(GUESSES, 3)[2]
    assert (problem.prompt, problem.reference) == ("Guess no. 7", "9")
    world.start(problem, seed=5)
    first, second = world.step("1"), world.step("2")
    assert first.observation is not None
    assert second.observation is not None
    assert first.observation.startswith("no, '1', ")
    assert second.observation.startswith("no, '2', ")
    assert (first.reward, first.verdict, first.feedback) == (None, None, ())
    assert world.step("9") == Step(None, 1.0, "correct")


def test_the_librarys_stops_and_its_limit_of_turns_end_a_rollout() -> None:
    world = environment(GUESSES, reward_range=[-1.0, 1.0], shown_scores=["num_guesses"])
    problem = problems(GUESSES, 1)[0]
    world.start(problem, seed=0)
    assert world.step("none") == Step(
        None, 0.0, "wrong", (FeedbackItem("tool_output", "num_guesses: 2"),)
    )
    world.start(problem, seed=0)
    assert all(world.step("11").observation is not None for _ in range(3))
    assert world.step("11") == Step(
        None, 0.0, "wrong", (FeedbackItem("tool_output", "num_guesses: 5"),)
    )


def test_what_is_drawn_comes_from_the_seed_whatever_goes_on_between() -> None:
    problem = problems(GUESSES, 1)[0]

    def told(worlds: list[Environment], seeds: list[int]) -> list[list[str | None]]:
        for world, seed in zip(worlds, seeds, strict=True):
            world.start(problem, seed)
        rounds = [[world.step("11").observation for world in worlds] for _ in range(2)]
        return [list(one) for one in zip(*rounds, strict=True)]

    alone = told([environment(GUESSES, reward_range=[-1, 1])], [1])[0]
    pair = [environment(GUESSES, reward_range=[-1, 1]) for _ in range(2)]
    first, second = told(pair, [1, 2])
    assert first == alone
    assert second != alone


@pytest.mark.parametrize(
    ("options", "actions"),
    [(SUMS, ["12"]), ({**GUESSES, "reward_range": [-1.0, 1.0]}, ["1", "2", "none"])],
)
def test_the_contract(options: dict[str, Any], actions: list[str]) -> None:
    given = {key: options[key] for key in ("taskset", "versions")}
    check_environment("verifiers", options, problems(given, 2), actions)


@pytest.mark.parametrize("options", [SUMS, GUESSES])
def test_the_sources_contract(options: dict[str, Any]) -> None:
    check_problem_source("verifiers", options)


def test_rewards_beyond_their_range_are_an_error_and_no_wrong_answer() -> None:
    world = environment(GUESSES)
    world.start(problems(GUESSES, 1)[0], seed=0)
    with pytest.raises(EnvironmentFault, match="sum to -1, expected 0 to 1: set reward_range"):
        world.step("none")


@pytest.mark.parametrize(
    ("task", "more", "message"),
    [
        ({"tools": True}, {}, r"tool servers \(Notes\)"),
        ({}, {"environment": "user-sim"}, r"2 agents \(assistant, user\), expected one"),
        ({}, {"environment_arguments": {"agent": {"max_output_tokens": 5}}}, "max_output_tokens"),
        ({}, {"environment_arguments": {"agent": {"model": "gpt"}}}, "pinned to a model"),
        ({}, {"environment_arguments": {"agent": {"harness": {"id": "codex"}}}}, "harness 'codex'"),
    ],
)
def test_what_is_more_than_text_is_refused(
    task: dict[str, Any], more: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        environment({**NEEDY, "arguments": {"task": task}}, **more)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("runtime", r"file_written\(\) takes a runtime"),
        ("rewriting", r"louder\(\) rewrites messages"),
        ("request_stop", r"is_long\(\) reads requests to an endpoint"),
    ],
)
def test_hooks_that_need_more_are_refused(kind: str, message: str) -> None:
    options = {**NEEDY, "arguments": {"task": {"kind": kind}}}
    world = environment(options)
    problem = problems({**options, "answer_field": None}, 1)[0]
    with pytest.raises(EnvironmentFault, match=message):
        world.start(problem, seed=0)


def test_a_reward_that_raises_is_an_error_and_no_wrong_answer() -> None:
    world = environment(NEEDY)
    problem = problems({**NEEDY, "answer_field": None}, 1)[0]
    world.start(problem, seed=0)
    with pytest.raises(EnvironmentFault, match="ValueError: a defect of the reward"):
        world.step("crash")
    world.start(problem, seed=0)
    assert world.step("yes") == Step(None, 1.0, "correct")


def test_more_than_one_run_of_the_agent_is_refused() -> None:
    world = environment(NEEDY, environment_arguments={"attempts": 2})
    world.start(problems({**NEEDY, "answer_field": None}, 1)[0], seed=0)
    with pytest.raises(EnvironmentFault, match="more than once in an episode"):
        world.step("yes")


def test_a_task_that_asks_for_a_box_is_refused() -> None:
    options = {**SUMS, "arguments": {"image": "python:3.12"}}
    with pytest.raises(EnvironmentFault, match="asks for image"):
        environment(options).start(problems(options, 1)[0], seed=0)


def test_a_problem_of_another_source_is_refused() -> None:
    with pytest.raises(EnvironmentFault, match="not made by the problem source verifiers"):
        environment(SUMS).start(Problem("1+1=", "2"), seed=0)
    other = problems(GUESSES, 1)[0]
    changed = json.loads(other.metadata)
    del changed["verifiers_task"]["answer"]
    with pytest.raises(EnvironmentFault, match="not one of GuessingTask"):
        environment(GUESSES).start(Problem("?", "2", json.dumps(changed)), seed=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"taskset": "no_such_taskset"}, "no_such_taskset"),
        ({"arguments": {"spilt": "test"}}, "spilt"),
        ({"versions": {"verifiers": "0.0.1"}}, "the settings say 0.0.1"),
        ({"versions": {"pytest": "1"}}, "expected verifiers as well"),
        ({"versions": {**VERSIONS, "no-such-dist": "1"}}, "no-such-dist is not installed"),
    ],
)
def test_settings_that_cannot_work_are_said(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        problems({**SUMS, **changes}, 1)
    with pytest.raises(ConfigError, match=message):
        environment({**SUMS, **changes})


def test_an_answer_field_that_is_not_there_is_said() -> None:
    with pytest.raises(DataError, match=r"has no 'gold', its data has .*answer"):
        problems({**SUMS, "answer_field": "gold"}, 1)
