"""A calculator between turns: what it answers, what its traces say, whose problems (2 s)."""

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distil_core.config.models import EnvironmentParams
from distil_core.environments import build_environment
from distil_core.environments.base import Environment, FeedbackItem, Step
from distil_core.errors import EnvironmentFault
from distil_core.problems.base import Problem
from distil_core.problems.tool_sums import Options, ToolSums, left_after
from distil_core.testing import check_environment

SUM = Problem("37+8-9=", "36")
SOME = list(
    islice(
        ToolSums(
            Options(min_operations=1, max_operations=3, demonstrator_slip_probability=0.8)
        ).problems("train", 4),
        50,
    )
)


def started(problem: Problem) -> Environment:
    environment = build_environment(
        EnvironmentParams(name="tool_sums", max_turns=4, max_observation_tokens=8)
    )
    environment.start(problem, seed=0)
    return environment


def traced(right: str, observation: str | None, is_marked: bool = False) -> Step:
    trace = FeedbackItem("execution_trace", right)
    return Step(observation, feedback=(trace,), is_marked=is_marked)


def test_a_rollout_as_it_should_be() -> None:
    environment = started(SUM)
    assert environment.step("37+8") == traced("37+8", "45")
    assert environment.step("45-9") == traced("45-9", "36")
    assert environment.step("36") == traced("36", None)


def test_a_wrong_call_is_answered_and_changes_nothing() -> None:
    environment = started(SUM)
    assert environment.step("37-8") == traced("37+8", "29", is_marked=True)
    assert environment.step("35-9") == traced("37+8", "26", is_marked=True)
    assert environment.step("37+8") == traced("37+8", "45")
    assert environment.step("26") == traced("45-9", None, is_marked=True)


@pytest.mark.parametrize("action", ["+-", "37+", "37++8", "37*8+1", "37+-8", " 37+8"])
def test_what_has_a_sign_and_is_no_call_is_said(action: str) -> None:
    assert started(SUM).step(action) == traced("37+8", "?", is_marked=True)


@pytest.mark.parametrize("action", ["", "66", "-66", "37*48", "the answer is 66"])
def test_a_turn_without_a_sign_is_the_answer(action: str) -> None:
    assert started(SUM).step(action).is_done


def test_numbers_are_read_with_leading_zeros_and_may_be_negative() -> None:
    environment = started(SUM)
    actions = ("37-37", "03+04", "-11+05", "99+99")
    assert [environment.step(action).observation for action in actions] == ["0", "7", "-6", "198"]


@given(problem=st.sampled_from(SOME), data=st.data())
def test_its_traces_are_of_the_rollout_and_replay_gives_them_again(
    problem: Problem, data: st.DataObject
) -> None:
    """Whatever was done, following the traces from there leads to the reference."""
    calls = st.builds(
        "{}{}{}".format, st.integers(0, 99), st.sampled_from("+-"), st.integers(0, 99)
    )
    environment, actions, steps = started(problem), [], []
    for _ in range(data.draw(st.integers(0, 3))):
        actions.append(data.draw(calls))
        steps.append(environment.step(actions[-1]))
        assert steps[-1].feedback[0].text == left_after(problem.prompt, actions[:-1]).right_action
    again = started(problem)
    assert [again.step(action) for action in actions] == steps
    while True:
        right = left_after(problem.prompt, actions).right_action
        step = environment.step(right)
        actions.append(right)
        assert not step.is_marked
        if step.is_done:
            break
    assert right == problem.reference


def test_another_problem_is_begun_anew() -> None:
    environment = started(SUM)
    environment.step("37+8")
    environment.start(Problem("31+2=", "33"), seed=0)
    assert environment.step("33") == traced("31+2", None, is_marked=True)


def test_a_problem_that_is_no_sum_is_the_environments_fault() -> None:
    with pytest.raises(EnvironmentFault, match=r"expected a sum such as .*, found '2-2\+1='"):
        started(Problem("2-2+1=", "1"))


def test_it_keeps_the_contract_of_environments() -> None:
    check_environment("tool_sums", {}, SOME, ["37-8", "37+8+", "31+2", "33"])
