"""Environments in processes: live or replayed, on any number of workers, whatever goes wrong."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pool_runs import params, plain, rollouts

from distil_core.environments.base import Step
from distil_core.environments.pool import EnvironmentPool, StepJob
from distil_core.environments.pool.answers import MAX_CHARACTERS, MAX_FEEDBACK_ITEMS, shortened
from distil_core.environments.pool.jobs import Replayed
from distil_core.environments.pool.live import LiveEnvironments
from distil_core.errors import ConfigError, EnvironmentFault, SandboxError
from distil_core.problems.base import Problem

SCRIPTS = [
    ["say a", "say b", "end", "never asked"],
    ["say a", "raise", "never asked"],
    ["fault"],
    ["say ü", *(f"say {turn}" for turn in range(6))],
    ["end"],
    ["exit"],
    ["long 10", "say more"],
]


def expected_steps(script: list[str], seed: int, prompt: str) -> list[Step]:
    from lab_environments.scripted import Options, build

    environment = build(Options())
    environment.start(Problem(prompt, "right"), seed)
    return [environment.step(action) for action in script]


def test_every_rollout_has_its_own_environment() -> None:
    outcomes = rollouts(params(), SCRIPTS)
    assert [len(of_one) for of_one in outcomes] == [3, 2, 1, 7, 1, 1, 2]
    assert outcomes[3] == expected_steps(SCRIPTS[3], 3, "prompt 3")
    assert outcomes[0][-1] == Step(None)
    assert "ValueError: its own trouble (line" in str(outcomes[1][1])
    assert "a defect of it" in str(outcomes[1][1])
    assert str(outcomes[2][0]) == "the service is away"
    assert type(outcomes[2][0]) is EnvironmentFault
    assert "SystemExit" in str(outcomes[5][0])


@pytest.mark.parametrize("num_workers", [1, 3])
def test_any_number_of_workers_gives_the_same(num_workers: int) -> None:
    again = rollouts(params(), SCRIPTS, num_workers)
    assert plain(again) == plain(rollouts(params(), SCRIPTS, 2))


def test_a_death_is_tried_again_by_replay_and_costs_no_other_rollout(tmp_path: Path) -> None:
    log = tmp_path / "log"
    scripts = [
        ["say a", f"dieonce {tmp_path / 'died'}", "say c"],
        ["say a", "say b", "say c", "say d"],
        ["say a", "die", "never asked"],
    ]
    outcomes = rollouts(params(log=str(log)), scripts, num_workers=1)
    assert outcomes[0] == expected_steps(scripts[0], 0, "prompt 0")
    assert outcomes[1] == expected_steps(scripts[1], 1, "prompt 1")
    assert len(outcomes[2]) == 2
    assert "was killed by SIGKILL" in str(outcomes[2][1])
    assert "twice" in str(outcomes[2][1])
    # Each was started again after a death of the process that they share.
    assert log.read_text().count("start 1\n") > 1


@pytest.mark.parametrize("action", ["hang", "flood"])
def test_what_never_answers_is_an_error_of_its_rollout_alone(action: str) -> None:
    scripts = [["say a", action, "never asked"], ["say a", "say b", "say c"]]
    outcomes = rollouts(params(timeout_s=6.0), scripts, num_workers=1)
    assert len(outcomes[0]) == 2
    assert "no answer within 6 s (context.environment.step_timeout_s)" in str(outcomes[0][1])
    assert outcomes[1] == expected_steps(scripts[1], 1, "prompt 1")


def test_the_time_limit_is_of_one_step_however_many_are_done_again(tmp_path: Path) -> None:
    """All turns before are done again after a death: their time together exceeds the limit."""
    died = tmp_path / "died"
    script = [*(f"pause {2.4 + turn / 10}" for turn in range(4)), f"dieonce {died}", "say z"]
    (outcomes,) = rollouts(params(timeout_s=9.0), [script], num_workers=1)
    assert all(isinstance(outcome, Step) for outcome in outcomes), outcomes
    assert died.exists()
    assert len(outcomes) == len(script)


def test_observations_of_any_size_are_cut_in_their_process() -> None:
    (outcomes,) = rollouts(params(), [["long 100000000", "say b"]], num_workers=1)
    step = outcomes[0]
    assert isinstance(step, Step)
    assert step.observation is not None
    assert len(step.observation) == MAX_CHARACTERS
    assert step.observation.startswith("startxxx")
    assert step.observation.endswith("xxxend")
    left_out = 100000000 + len("startend") - MAX_CHARACTERS
    assert f"[.. {left_out} characters left out ..]" in step.observation
    assert len(step.feedback) == MAX_FEEDBACK_ITEMS
    assert {len(item.text) for item in step.feedback} == {MAX_CHARACTERS // MAX_FEEDBACK_ITEMS}
    assert isinstance(outcomes[1], Step)


@given(st.text(alphabet=st.characters(), max_size=300), st.integers(80, 200))
def test_shortened_text_is_storable_and_keeps_both_ends(text: str, limit: int) -> None:
    short = shortened(text, limit)
    readable = text.encode("utf-8", "backslashreplace").decode()
    if len(text) <= limit:
        assert short == readable
    else:
        assert "characters left out" in short
        assert short[0] == readable[0]
        assert short[-1] == readable[-1]
    assert short.encode().decode() == short


def test_text_that_is_no_utf8_is_made_readable() -> None:
    (outcomes,) = rollouts(params(), [["surrogate"]], num_workers=1)
    assert outcomes == [Step("a\\ud800b")]


WRONG = {
    "type": "str in place of a Step",
    "observation": "an observation that is int",
    "reward": "the reward 1.5",
    "nan": "the reward nan",
    "bool": "the reward True",
    "feedback": "feedback that holds str",
    "kind": "feedback of kind ''",
    "text": "feedback whose text is int",
    "marked": "is_marked 1",
    "verdict": "a verdict, while its options say that it does not judge",
    "unknown": "the verdict 'perhaps'",
}


def test_what_step_returns_is_checked() -> None:
    scripts = [["say a", f"wrong {which}"] for which in WRONG]
    outcomes = rollouts(params(), scripts, num_workers=2)
    for (which, expected), of_one in zip(WRONG.items(), outcomes, strict=True):
        assert isinstance(of_one[0], Step), which
        assert expected in str(of_one[1]), which
        assert "the environment has a defect" in str(of_one[1])


def test_an_environment_that_judges_must_do_so() -> None:
    scripts = [["end"], ["wrong unjudged"], ["wrong judged"], ["wrong verdict"]]
    outcomes = rollouts(params(is_judging=True), scripts, num_workers=1)
    assert outcomes[0] == [Step(None, 1.0, "correct")]
    assert "the end of a rollout without verdict and reward" in str(outcomes[1][0])
    assert "a verdict together with an observation" in str(outcomes[2][0])
    assert outcomes[3] == [Step(None, 1.0, "correct")]


def test_an_end_that_comes_only_the_second_time_is_a_defect(tmp_path: Path) -> None:
    script = [f"fickle {tmp_path / 'first'}", f"dieonce {tmp_path / 'died'}"]
    (outcomes,) = rollouts(params(), [script], num_workers=1)
    assert isinstance(outcomes[0], Step)
    assert "it ended the rollout at turn 1" in str(outcomes[1])


def test_problems_that_it_cannot_start_are_rows_errors() -> None:
    outcomes = rollouts(params(), [["say a"], ["say a"]], prompts=["not mine", "mine"])
    assert str(outcomes[0][0]) == "this problem is none of mine"
    assert isinstance(outcomes[1][0], Step)


def test_what_answers_nothing_at_all_ends_the_stage() -> None:
    with pytest.raises(EnvironmentFault, match=r"answered none of 32 actions.*its own trouble"):
        rollouts(params(), [["raise"]] * 40)
    with pytest.raises(EnvironmentFault, match="answered none of 2 actions"):
        rollouts(params(), [["raise"], ["fault"]])


def test_one_that_answered_before_does_not_end_the_stage() -> None:
    with EnvironmentPool(params(), 1, has_result=True) as pool:
        pool.submit(0, 5, StepJob(Problem("a", "b"), 0, ("raise",)))
        ((tag, outcome),) = pool.collect(wait=True)
    assert tag == 5
    assert "its own trouble" in str(outcome)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_what_belongs_to_no_rollout_is_raised(num_workers: int) -> None:
    with pytest.raises(SandboxError, match="no isolation here"):
        rollouts(params(), [["say a"], ["sandbox"]], num_workers)
    with pytest.raises(EnvironmentFault, match=r"(?s)while it was built.*cannot be built"):
        rollouts(params(fails_to_build=True), [["say a"]], num_workers)
    with pytest.raises(ConfigError, match="nowhere"):
        rollouts(params("lab_environments.nowhere"), [["say a"]], num_workers)
    with pytest.raises(ConfigError, match="unknown_option"):
        rollouts(params(unknown_option=1), [["say a"]], num_workers)


def test_an_error_comes_again_to_who_asks_again() -> None:
    with EnvironmentPool(params("lab_environments.nowhere"), 1) as pool:
        pool.submit(0, 0, StepJob(Problem("a", "b"), 0, ("say a",)))
        for _ in range(2):
            with pytest.raises(ConfigError, match="nowhere"):
                pool.collect(wait=True)
        # What was never answered is no reason to fail once more.
        assert pool.num_pending == 1


def test_submitting_and_asking_never_wait() -> None:
    with EnvironmentPool(params(), 1) as pool:
        assert pool.collect(wait=True) == []
        for tag in range(3):
            pool.submit(0, tag, StepJob(Problem("a", "b"), tag, ("pause 1",)))
        assert pool.collect(wait=False) == []
        assert pool.num_pending == 3
        found: list[Any] = []
        # The processes go on while this one computes.
        while len(found) < 3:
            found += pool.collect(wait=False)
            time.sleep(0.05)
    assert sorted(tag for tag, _ in found) == [0, 1, 2]


def test_leaving_early_ends_everything_at_once() -> None:
    before = threading.active_count()
    with EnvironmentPool(params(timeout_s=None), 2) as pool:
        for tag in range(2):
            pool.submit(tag, tag, StepJob(Problem("a", "b"), tag, ("hang",)))
        pids = [worker.process.pid for worker in pool._lanes._workers]
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert threading.active_count() == before


def test_environments_are_closed_in_order(tmp_path: Path) -> None:
    log = tmp_path / "log"
    rollouts(params(log=str(log)), [["say a"], ["say a", "end"]], num_workers=1)
    assert log.read_text().splitlines().count("close") == 2


ACTIONS = st.lists(st.sampled_from(["say a", "say b", "say c"]), min_size=1, max_size=5)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(ACTIONS, min_size=1, max_size=5), st.integers(1, 6), st.randoms())
def test_replay_gives_the_steps_of_a_live_environment(
    scripts: list[list[str]], max_live: int, random: Any
) -> None:
    """With room for fewer environments than there are rollouts, in any order of their turns, each
    step is what an environment of its own gives."""
    from lab_environments.scripted import Options, build

    live = LiveEnvironments(lambda: build(Options()), judges=False, max_live=max_live)
    left = [(index, 1) for index in range(len(scripts))]
    while left:
        index, count = left.pop(random.randrange(len(left)))
        job = StepJob(Problem(f"prompt {index}", "right"), index, tuple(scripts[index][:count]))
        outcome = live.answer(job)
        while isinstance(outcome, Replayed):
            outcome = live.answer(job)
        assert outcome == expected_steps(scripts[index][:count], index, f"prompt {index}")[-1]
        if count < len(scripts[index]):
            left.append((index, count + 1))
    live.close()
