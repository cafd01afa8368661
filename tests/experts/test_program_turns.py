"""A program that is asked about turns: what it is told, and what becomes of its failures (real
processes, about 30 s)."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distil_core.campaign.load import parse_params
from distil_core.config.models import (
    Component,
    ContextParams,
    EnvironmentParams,
    TabulateParams,
)
from distil_core.engines.base import ScoredResponse
from distil_core.environments import build_environment
from distil_core.errors import ConfigError
from distil_core.experts import EXPERTS
from distil_core.experts._program_questions import Question
from distil_core.experts._turn_query import TurnQuery
from distil_core.experts.base import ExpertAnswer, ExpertQuery, ExpertSetting
from distil_core.experts.programs import PROGRAMS
from distil_core.experts.served import SameTokens
from distil_core.feedback.contexts import ContextRenderer
from distil_core.policy.tokenizer import encode_text
from distil_core.problems import PROBLEM_SOURCES
from distil_core.problems.base import Problem
from distil_core.problems.turns import TurnSoFar, turns_so_far
from distil_core.progress import no_progress
from distil_core.tables.schemas import ConsultationRow, FeedbackTableRow, RolloutRow, TurnRow
from distil_core.testing import check_program, program_checks
from distil_core.training.feedback_table import JudgedRollout, Labeller, judged_rollouts
from distil_core.yaml_text import parse_yaml

PROJECT = Path(__file__).parents[2]
SOURCE = {
    "name": "tool_sums",
    "options": {"min_operations": 2, "max_operations": 3, "demonstrator_slip_probability": 0.5},
}
CONTEXT = ContextParams(
    student_template="{prompt}|",
    expert_template="{prompt}{attempt}?{execution_trace}|",
    max_context_tokens=100,
    environment=EnvironmentParams(
        name="tool_sums",
        max_turns=4,
        max_observation_tokens=5,
        observation_template="{observation}|",
        expert_sees="past",
    ),
)
ACCIDENTS = '''
"""Says what it is told, and has accidents in single turns."""
import os
import time

from distil_core.experts.programs.base import ProgramOptions


class Options(ProgramOptions):
    """How it answers."""

    how: str
    """What it does after one turn."""

    @property
    def follows_turns(self):
        """True, but for one that says nothing of it."""
        return self.how != "silent"


class Accidents:
    def __init__(self, options):
        self.how = options.how

    def __call__(self, problem, so_far, feedback, *, turns=()):
        if len(turns) == 1 and self.how == "raise":
            raise KeyError("second")
        if len(turns) == 1 and self.how == "hang":
            time.sleep(1000)
        if len(turns) == 1 and self.how == "die":
            os._exit(3)
        last = turns[-1].observation if turns else ""
        return f"{len(turns)}{last}"


class WithoutTurns:
    def __call__(self, problem, so_far, feedback):
        return "1"


def build(options):
    return WithoutTurns() if options.how == "deaf" else Accidents(options)
'''


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two programs: one with accidents, and the one that the documentation shows."""
    package = tmp_path_factory.mktemp("lab") / "turn_programs_of_tests"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "accidents.py").write_text(ACCIDENTS)
    shown = re.findall(r"```python\n(.*?)```", (PROJECT / "docs" / "experts.md").read_text(), re.S)
    [example] = [code for code in shown if "turns" in code]
    (package / "shown.py").write_text(example)
    sys.path.insert(0, str(package.parent))
    return package.name


@pytest.fixture(scope="module")
def rollouts(tokenizer: Any) -> dict[str, tuple[RolloutRow, Problem]]:
    """Rollouts of an unskilled student, some calls right and some wrong, as tables have them."""
    source: Any = PROBLEM_SOURCES.build(SOURCE["name"], SOURCE["options"])
    random = np.random.default_rng(3)
    found = {}
    for number, problem in zip(range(30), source.problems("train", 1), strict=False):
        rollout = played(source, problem, random, tokenizer, f"001/{problem.problem_id}/{number}")
        found[rollout.rollout_id] = rollout, problem
    assert {len(one.turns) for one, _ in found.values()} >= {1, 2, 3, 4}
    return found


def played(source: Any, problem: Problem, random: Any, tokenizer: Any, name: str) -> RolloutRow:
    assert CONTEXT.environment is not None
    environment = build_environment(CONTEXT.environment)
    environment.start(problem, 0)
    turns: list[TurnRow] = []
    ids: list[int] = []
    while not turns or turns[-1].observation is not None:
        so_far = turns_so_far(turns)
        action = source.corrupted_action(problem, so_far, random)
        step = environment.step(action)
        said = None if len(turns) == 3 else step.observation
        own = [*encode_text(tokenizer, action), tokenizer.eos_token_id]
        answer = [] if said is None else encode_text(tokenizer, f"{said}|")
        ids += [*own, *answer]
        counted = len(own), len(answer), "stop"
        turns.append(TurnRow(*counted, action, said, None, None, step.feedback, False, None))
    environment.close()
    context_ids = encode_text(tokenizer, f"{problem.prompt}|")
    return RolloutRow(
        name, problem.problem_id, 0, 0, context_ids, ids, [-1.0] * sum(t.num_tokens for t in turns),
        "stop", turns[-1].action, None, tuple(turns),
    )  # fmt: skip


def judged(rollouts: dict[str, tuple[RolloutRow, Problem]], tokenizer: Any) -> list[JudgedRollout]:
    rows = [rollout for rollout, _ in rollouts.values()]
    return judged_rollouts(
        rows,
        [ConsultationRow(one.rollout_id, 0.0, "wrong", (), None, None) for one in rows],
        {problem.problem_id: problem for _, problem in rollouts.values()},
        ContextRenderer(CONTEXT, tokenizer),
    )


@pytest.fixture
def label(
    rollouts: dict[str, tuple[RolloutRow, Problem]],
    tokenizer: Any,
    policy_dir: Path,
    compute: Any,
    tmp_path: Path,
) -> Any:
    """Label the rollouts by a program; the table's rows, and the expert."""

    def labelled(name: str, program: dict[str, Any], most: int = 30, **changed: Any) -> Any:
        options = {"program": {"name": name, "options": program}, "num_workers": 2} | changed
        setting = ExpertSetting(policy_dir, compute, 100, 16, 1.0, tmp_path / "record", 5)
        expert = EXPERTS.build("program", options, setting=setting)
        component = Component(name="program", options=options)
        params = TabulateParams(expert=component, top_k=16, top_p=1.0, rows_per_shard=7)
        labeller = Labeller(expert, ContextRenderer(CONTEXT, tokenizer), params)
        shards = labeller.shards(judged(rollouts, tokenizer)[:most], no_progress)
        return [row for shard in shards for row in shard], expert

    return labelled


def by_turn(row: FeedbackTableRow, rollout: RolloutRow, tokenizer: Any) -> list[list[str | None]]:
    """The label of each state, turn by turn; None where there is none."""
    ids = iter(row.expert_ids)
    labels = iter(next(ids) if count else None for count in row.expert_counts)
    names = tokenizer.convert_ids_to_tokens
    found = [[next(labels) for _ in range(turn.num_tokens)] for turn in rollout.turns]
    assert next(labels, "none left") == "none left"
    return [[None if one is None else names(int(one)) for one in turn] for turn in found]


def test_the_sources_oracle_says_what_the_environment_knows_to_be_right(
    label: Any, rollouts: Any, tokenizer: Any
) -> None:
    rows, _ = label("turn_oracle", {"source": SOURCE})
    for row in rows:
        rollout, _ = rollouts[row.rollout_id]
        for turn, found in zip(rollout.turns, by_turn(row, rollout, tokenizer), strict=True):
            right = [*turn.feedback[0].text, *[tokenizer.eos_token] * turn.num_tokens]
            assert found == right[: turn.num_tokens]


def test_the_program_of_the_documentation_is_right_wherever_it_speaks(
    label: Any, rollouts: Any, tokenizer: Any, lab: str
) -> None:
    rows, _ = label(f"{lab}.shown", {})
    num_silent = 0
    for row in rows:
        rollout, _ = rollouts[row.rollout_id]
        for turn, found in zip(rollout.turns, by_turn(row, rollout, tokenizer), strict=True):
            right = turn.feedback[0].text
            for place, said in enumerate(found):
                if right.startswith(turn.action[:place]):
                    assert said == [*right, tokenizer.eos_token][place]
                else:
                    assert said is None
                    num_silent += 1
    assert num_silent > 5
    check_program(f"{lab}.shown", problems=[Problem("37+8-4=", "41")])


def test_it_is_told_the_turns_before_and_what_was_answered(
    label: Any, rollouts: Any, tokenizer: Any, lab: str, tmp_path: Path
) -> None:
    rows, expert = label(f"{lab}.accidents", {"how": "well"})
    for row in rows:
        rollout, _ = rollouts[row.rollout_id]
        for number, found in enumerate(by_turn(row, rollout, tokenizer)):
            assert set(found) == {str(number)}
    expert.save_record(tmp_path / "saved")
    [_, *answers] = (tmp_path / "saved" / "program_answers.jsonl").read_text().splitlines()
    told = {json.dumps(json.loads(line)["turns"]) for line in answers}
    expected = {
        json.dumps([[turn.action, turn.observation] for turn in rollout.turns[:number]])
        for rollout, _ in rollouts.values()
        for number in range(len(rollout.turns))
    }
    assert told == expected


@pytest.mark.parametrize(("how", "reason"), [("raise", "raised"), ("hang", "timed_out")])
def test_a_turn_in_which_it_fails_is_silent_and_recorded(
    label: Any, rollouts: Any, tokenizer: Any, lab: str, tmp_path: Path, how: str, reason: str
) -> None:
    rows, expert = label(f"{lab}.accidents", {"how": how}, most=6, timeout_s=1.0)
    assert max(len(rollouts[row.rollout_id][0].turns) for row in rows) > 2
    for row in rows:
        rollout, _ = rollouts[row.rollout_id]
        for number, found in enumerate(by_turn(row, rollout, tokenizer)):
            assert set(found) == ({None} if number == 1 else {str(number)})
        assert row.has_expert
    expert.save_record(tmp_path / "saved")
    lines = (tmp_path / "saved" / "expert_failures.jsonl").read_text().splitlines()
    failures = [json.loads(line) for line in lines]
    with_two = [row.rollout_id for row in rows if len(rollouts[row.rollout_id][0].turns) > 1]
    assert [one["rollout_id"] for one in failures] == with_two
    for one in failures:
        num_tokens = rollouts[one["rollout_id"]][0].turns[1].num_tokens
        assert (one["turn"], one["reason"]) == (1, reason)
        assert one["failed_states"] == list(range(num_tokens))
    counts = json.loads((tmp_path / "saved" / "expert_counts.json").read_text())
    assert (counts["rollouts_with_failures"], counts["silent_rollouts"]) == (len(with_two), 0)


def test_each_turn_has_its_own_share_of_states(label: Any, rollouts: Any, tokenizer: Any) -> None:
    rows, _ = label("turn_oracle", {"source": SOURCE}, share_of_states=0.5)
    patterns = set()
    for row in rows:
        rollout, _ = rollouts[row.rollout_id]
        for turn, found in zip(rollout.turns, by_turn(row, rollout, tokenizer), strict=True):
            asked = [place for place, one in enumerate(found) if one is not None]
            assert len(asked) == -(-turn.num_tokens // 2)
            patterns.add((len(found), *asked))
    assert len(patterns) > 8


def test_a_program_that_does_not_follow_turns_is_asked_as_ever() -> None:
    """The keys of its recorded answers are those of before."""
    asked = Question(Problem("12+30=", "42"), "4", {"prompt": "12+30="})
    assert asked.key.hex() == "bc342ab320a38a43ee96c5e2fae4c0b9"
    told = Question(asked.problem, "4", asked.feedback, ())
    assert told.key != asked.key
    assert Question(asked.problem, "4", asked.feedback, (TurnSoFar("1", "2"),)).key != told.key


def test_whoever_does_not_take_turns_is_refused_when_settings_are_read(lab: str) -> None:
    values: Any = parse_yaml((PROJECT / "presets" / "tools.yaml").read_text())
    said = {
        ("program", "reference"): "'program' with program 'reference' does not follow",
        ("program", f"{lab}.accidents"): f"with program '{lab}.accidents' does not follow",
    }
    for (expert, program), message in said.items():
        options: Any = {"how": "silent"} if program != "reference" else {}
        chosen = {"program": {"name": program, "options": options}}
        values["tabulate"]["expert"] = {"name": expert, "options": chosen}
        with pytest.raises(ConfigError, match=message):
            parse_params(values, "tools.yaml")
    chosen = {"program": {"name": "turn_oracle", "options": {"source": SOURCE}}}
    values["tabulate"]["expert"] = {"name": "program", "options": chosen}
    parse_params(values, "tools.yaml")
    served: Any = {"base_url": "http://127.0.0.1:1/v1", "model": "m"}
    values["tabulate"]["expert"] = {"name": "served", "options": served}
    parse_params(values, "tools.yaml")
    other = {"tokenizer": "/models/other", "template": "{prompt}"}
    values["tabulate"]["expert"] = {"name": "served", "options": served | other}
    with pytest.raises(ConfigError, match="'served' does not follow"):
        parse_params(values, "tools.yaml")


@pytest.mark.parametrize(("how", "said"), [("silent", "do not say so"), ("deaf", "not take them")])
def test_options_and_call_that_disagree_are_found(lab: str, how: str, said: str) -> None:
    checks = program_checks(f"{lab}.accidents", {"how": how})
    [one] = [check for check in checks if "takes the turns" in str(check)]
    with pytest.raises(AssertionError, match=said):
        one()


def test_the_oracle_over_turns_keeps_the_contract() -> None:
    check_program("turn_oracle", {"source": SOURCE}, [Problem("37+8-4=", "41")])
    options = {"num_operations": 2, "modulus": 3, "demonstrator_slip_probability": 0.5}
    chain = {"name": "chain_arithmetic", "options": options}
    with pytest.raises(ConfigError, match="oracle_action_characters"):
        PROGRAMS.build("turn_oracle", {"source": chain})


def test_a_server_is_asked_about_a_turn_after_all_tokens_before_it(
    rollouts: Any, tokenizer: Any, policy_dir: Path, compute: Any
) -> None:
    """The served expert's prompts, and where in them the labels begin. (What a server answers to
    such prompts: test_served.py.)"""
    setting = ExpertSetting(policy_dir, compute, 100, 16, 1.0, None, 5)
    reader = SameTokens(tokenizer, None, setting)
    asked: list[ExpertQuery] = []

    class Silent:
        needs_feedback = False

        def answer(self, queries: Any, progress: Any) -> list[ExpertAnswer]:
            asked.extend(queries)
            silent = ScoredResponse.silent
            return [ExpertAnswer([], silent(len(one.response_ids))) for one in queries]

    params = TabulateParams(expert=Component(name="served"), top_k=4, top_p=1.0, rows_per_shard=99)
    found = judged(rollouts, tokenizer)
    labeller = Labeller(Silent(), ContextRenderer(CONTEXT, tokenizer), params)
    assert not any(
        row.has_expert for [*rows] in labeller.shards(found, no_progress) for row in rows
    )
    queries = iter(asked)
    for one in found:
        for number, turn in enumerate(one.turns):
            query = next(queries)
            prompt = reader.prompt(query)
            so_far = one.rollout.response_ids
            assert prompt.token_ids == [*turn.context.token_ids, *so_far[: turn.stop]]
            assert prompt.start == len(turn.context.token_ids) + turn.start
            assert isinstance(query, TurnQuery)
            assert len(query.turns) == number
