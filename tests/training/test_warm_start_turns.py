"""The warm start in an environment: which tokens are read, and which are learned from (10 s)."""

import math
from typing import Any

import pytest
import torch

from distil_core.config.models import Component, ConsultParams, ContextParams, EnvironmentParams
from distil_core.environments import build_environment
from distil_core.errors import ConfigError
from distil_core.policy.tokenizer import decode
from distil_core.problems import PROBLEM_SOURCES
from distil_core.problems.base import Problem
from distil_core.problems.splits import make_splits
from distil_core.problems.tool_sums import Options, ToolSums, is_answer, left_after
from distil_core.problems.turns import TurnSoFar
from distil_core.seeds import generator
from distil_core.training.warm_start import NO_LABEL, WarmStartExample, _batch, _supervised_loss
from distil_core.training.warm_start_turns import TurnExamples, turn_source
from distil_core.verifiers import build_verifier

SEED = 5
SOURCE = ToolSums(Options(min_operations=1, max_operations=3, demonstrator_slip_probability=0.6))
MAX_TURNS = 3
VERIFIER = build_verifier(ConsultParams(verifier=Component(name="exact_text"), reveal="nothing"))
END = "<|end|>"


def context(expert_sees: str = "hindsight") -> ContextParams:
    return ContextParams(
        student_template="{prompt}|",
        expert_template="{prompt}?{attempt}#{verdict} {execution_trace}|",
        max_context_tokens=96,
        environment=EnvironmentParams(
            name="tool_sums",
            max_turns=MAX_TURNS,
            max_observation_tokens=8,
            observation_template="={observation}|",
            expert_sees=expert_sees,
        ),
    )


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    return make_splits(SOURCE, {"eval": 0, "train": 0, "warm_start": 300}, SEED)["warm_start"]


def making(tokenizer: Any, expert_sees: str = "hindsight") -> TurnExamples:
    return TurnExamples(SOURCE, VERIFIER, tokenizer, context(expert_sees), SEED)


def played(problem: Problem, act: str, purpose: str) -> list[TurnSoFar]:
    """The turns again, each answer from the environment by itself; '' after the last."""
    random = generator(SEED, "base", purpose, problem.problem_id)
    environment = build_environment(context().environment)
    environment.start(problem, 0)
    turns: list[TurnSoFar] = []
    while True:
        action = getattr(SOURCE, act)(problem, turns, random)
        said = environment.step(action).observation
        if said is None or len(turns) + 1 == MAX_TURNS:
            return [*turns, TurnSoFar(action, "")]
        turns.append(TurnSoFar(action, said))


def tokens(tokenizer: Any, ids: list[int]) -> list[str | None]:
    """None where there is no label."""
    return [None if one == NO_LABEL else tokenizer.convert_ids_to_tokens(one) for one in ids]


def read(turns: list[TurnSoFar]) -> list[str]:
    """All tokens of these turns, each written by hand."""
    said = [[*turn.action, END, *f"={turn.observation}|"] for turn in turns[:-1]]
    return [*(token for of_turn in said for token in of_turn), *turns[-1].action, END]


def test_demonstrations_are_read_whole_and_learned_from_where_the_demonstrator_wrote(
    problems: list[Problem], tokenizer: Any
) -> None:
    examples = making(tokenizer).demonstrations(problems)
    for problem, example in zip(problems, examples, strict=True):
        turns = played(problem, "demonstrated_action", "demonstration")
        labels: list[str | None] = []
        for turn in turns[:-1]:
            labels += [*turn.action, END, *[None] * len(f"={turn.observation}|")]
        assert decode(tokenizer, example.context_ids) == f"{problem.prompt}|"
        assert tokens(tokenizer, example.input_ids) == read(turns)
        assert tokens(tokenizer, example.label_ids) == [*labels, *turns[-1].action, END]
    assert {
        sum(label is None for label in tokens(tokenizer, one.label_ids)) > 0 for one in examples
    } == {
        True,
        False,
    }


def right_at_each_state(problem: Problem, turns: list[TurnSoFar]) -> list[str]:
    """At each character of the last turn, and its end, what the right action has there."""
    right = left_after(problem.prompt, [turn.action for turn in turns[:-1]]).right_action
    width = len(turns[-1].action) + 1
    return [*right, *[END] * width][:width]


def traces(problem: Problem, turns: list[TurnSoFar]) -> list[str]:
    actions = [turn.action for turn in turns]
    return [left_after(problem.prompt, actions[:place]).right_action for place in range(len(turns))]


def transcript(turns: list[TurnSoFar]) -> str:
    return "".join(f"{turn.action}={turn.observation}|" for turn in turns[:-1]) + turns[-1].action


def verdict(problem: Problem, turns: list[TurnSoFar]) -> str:
    last = turns[-1].action
    if not is_answer(last):
        return "truncated"
    if not last:
        return "malformed"
    return "correct" if last == problem.reference else "wrong"


def test_corrections_follow_what_was_done_and_say_what_was_right_there(
    problems: list[Problem], tokenizer: Any
) -> None:
    examples = making(tokenizer).corrections(problems)
    seen = {"correct": 0, "wrong": 0, "truncated": 0}
    for problem, example in zip(problems, examples, strict=True):
        turns = played(problem, "corrupted_action", "corruption")
        labels: list[str | None] = []
        for number, turn in enumerate(turns, start=1):
            labels += right_at_each_state(problem, turns[:number])
            labels += [None] * (len(f"={turn.observation}|") if number < len(turns) else 0)
        said = verdict(problem, turns)
        assert decode(tokenizer, example.context_ids) == (
            f"{problem.prompt}?{transcript(turns)}#{said} "
            + "\n".join(traces(problem, turns))
            + "|"
        )
        assert tokens(tokenizer, example.input_ids) == read(turns)
        assert tokens(tokenizer, example.label_ids) == labels
        seen[said] = seen.get(said, 0) + 1
    assert all(seen[kind] >= 10 for kind in ("correct", "wrong", "truncated")), seen


def test_an_expert_that_sees_the_past_has_an_example_of_each_turn(
    problems: list[Problem], tokenizer: Any
) -> None:
    some = problems[:60]
    examples = iter(making(tokenizer, "past").corrections(some))
    for problem in some:
        turns = played(problem, "corrupted_action", "corruption")
        for number in range(1, len(turns) + 1):
            example, so_far = next(examples), turns[:number]
            said = verdict(problem, turns) if number == len(turns) else ""
            assert decode(tokenizer, example.context_ids) == (
                f"{problem.prompt}?{transcript(so_far)}#{said} "
                + "\n".join(traces(problem, so_far))
                + "|"
            )
            own = right_at_each_state(problem, so_far)
            assert tokens(tokenizer, example.input_ids) == read(so_far)
            before = len(example.input_ids) - len(own)
            assert tokens(tokenizer, example.label_ids) == [*[None] * before, *own]
    assert next(examples, None) is None


def test_examples_do_not_depend_on_which_others_there_are(
    problems: list[Problem], tokenizer: Any
) -> None:
    some = list(reversed(problems[100:110]))
    all_of_them, again = making(tokenizer), making(tokenizer)
    for kind in ("demonstrations", "corrections"):
        whole = getattr(all_of_them, kind)(problems)
        assert getattr(again, kind)(some) == list(reversed(whole[100:110]))


@pytest.mark.parametrize("layout", ["padded", "prefix_tree"])
@pytest.mark.usefixtures("exact_norms")
def test_only_the_demonstrators_tokens_are_in_the_loss(
    problems: list[Problem], tokenizer: Any, new_model: Any, layout: Any
) -> None:
    """Against each label's log-probability, one example at a time."""
    model = new_model(1).double()
    made = making(tokenizer)
    examples = [*made.demonstrations(problems[:12]), *made.corrections(problems[:12])]
    found: list[float] = []
    for one in examples:
        ids = [*one.context_ids, *one.input_ids]
        logits = model(torch.tensor([ids])).logits[0]
        for place, label in enumerate(one.label_ids, start=len(one.context_ids)):
            if label != NO_LABEL:
                found.append(-torch.log_softmax(logits[place - 1], -1)[label].item())
    loss = _supervised_loss(model, _batch(examples, layout)).item()
    assert math.isclose(loss, sum(found) / len(found), rel_tol=1e-9)
    assert len(found) < sum(len(one.input_ids) for one in examples), "some have no label"


def test_a_source_without_turns_is_refused() -> None:
    options = {"num_operations": 3, "modulus": 7, "demonstrator_slip_probability": 0.5}
    source = PROBLEM_SOURCES.build("chain_arithmetic", options)
    with pytest.raises(ConfigError, match="'chain_arithmetic' does not: use"):
        turn_source(source, "chain_arithmetic")
    assert turn_source(SOURCE, "tool_sums") is SOURCE


def test_an_example_is_as_long_as_its_labels(problems: list[Problem], tokenizer: Any) -> None:
    made = making(tokenizer)
    for example in [*made.demonstrations(problems), *made.corrections(problems)]:
        assert isinstance(example, WarmStartExample)
        assert len(example.input_ids) == len(example.label_ids)
        assert any(label != NO_LABEL for label in example.label_ids)
