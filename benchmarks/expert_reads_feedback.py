"""Does the expert read its feedback? Label accuracy with it, without it, and with another's.

`python -m benchmarks.expert_reads_feedback` after `make run`: scores iteration 1's rollouts with
the base policy's weights, as the campaign's expert does, at every state the student visited. The
label is what the program says should come next there (the problem source's oracle). Most states
of a long response are easy, so those where the student wrote something else are shown apart.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distil_core.campaign import load_iteration_params
from distil_core.config.models import IterationParams
from distil_core.errors import DistilError
from distil_core.experts import build_expert
from distil_core.experts.base import ExpertQuery
from distil_core.feedback.contexts import ContextRenderer
from distil_core.policy.tokenizer import encode_text, load_tokenizer
from distil_core.problems import build_source
from distil_core.problems.base import Problem, ProblemSource, SupervisedSource
from distil_core.problems.store import read_problems
from distil_core.problems.turns import SupervisedTurnSource, turns_so_far
from distil_core.progress import no_progress
from distil_core.tables.schemas import CONSULTATIONS, ROLLOUTS
from distil_core.tables.store import read_rows
from distil_core.training.feedback_table import JudgedRollout, judged_rollouts
from distil_core.verifiers.base import FeedbackItem
from distil_core.workspace import Workspace

Feedback = tuple[str, Sequence[FeedbackItem]]
"""The verdict and what came with it."""


@dataclass(frozen=True)
class AskedTurn:
    """A turn of a rollout, or all of a single response: what the expert reads of it, and the
    oracle's token at each of its states. before_ids: the rollout's tokens before it."""

    problem: Problem
    attempt: str
    feedback: Feedback
    before_ids: Sequence[int]
    ids: Sequence[int]
    labels: Sequence[int]


@dataclass(frozen=True)
class LabelAccuracy:
    """Share of states at which the expert's most likely token is the oracle's. at_errors: among
    the states where the student's token was not."""

    all_states: float
    at_errors: float


def main() -> None:
    """Print one line for each kind of feedback."""
    workspace = Workspace(Path.cwd())
    try:
        params = load_iteration_params(workspace, 1)
        num_rollouts = params.sample.num_prompts * params.sample.num_rollouts
        accuracies = label_accuracies(workspace, params)
    except DistilError as error:
        sys.exit(f"{error}")
    print(f"{num_rollouts} rollouts of iteration 1; expert's most likely token is the oracle's:")
    print(f"  {'':33s} all states   where the student erred")
    for name, accuracy in accuracies.items():
        print(f"  {name:33s} {accuracy.all_states:10.4f} {accuracy.at_errors:12.4f}")


def label_accuracies(workspace: Workspace, params: IterationParams) -> dict[str, LabelAccuracy]:
    """Of iteration 1's expert given three kinds of feedback, by what they are called."""
    rollouts = _rollouts(workspace, params)
    # Rollouts of one problem lie together: the next one's would be of the same problem.
    shift = params.sample.num_rollouts
    others = (*rollouts[shift:], *rollouts[:shift])
    turns = [turn for rollout in rollouts for turn in rollout]
    kinds: dict[str, list[Feedback]] = {
        "with its feedback": [turn.feedback for turn in turns],
        "with another problem's feedback": [
            other[min(number, len(other) - 1)].feedback
            for rollout, other in zip(rollouts, others, strict=True)
            for number in range(len(rollout))
        ],
        "without feedback": [("", ()) for _ in turns],
    }
    return {name: _accuracy(workspace, params, turns, given) for name, given in kinds.items()}


def _rollouts(workspace: Workspace, params: IterationParams) -> list[list[AskedTurn]]:
    """The turns of each of iteration 1's rollouts, as the expert is asked about them."""
    problems = {
        problem.problem_id: problem
        for problem in read_problems(workspace.problems_dir / "train.parquet")
    }
    tokenizer = load_tokenizer(workspace.policy_dir(0))
    judged = judged_rollouts(
        read_rows(workspace.rollouts_file(1), ROLLOUTS),
        read_rows(workspace.consultations_file(1), CONSULTATIONS),
        problems,
        ContextRenderer(params.context, tokenizer),
    )
    source = build_source(params.problems)
    end_id = int(tokenizer.eos_token_id)
    found = []
    for one in judged:
        turns = []
        for turn, said in zip(one.turns, _oracle_characters(source, one), strict=True):
            ids = one.rollout.response_ids[turn.start : turn.stop]
            labels = encode_text(tokenizer, said) + [end_id] * len(ids)
            values = turn.context.values
            turns.append(
                AskedTurn(
                    one.problem,
                    values["attempt"],
                    (values["verdict"], turn.feedback),
                    one.rollout.response_ids[: turn.start],
                    ids,
                    labels[: len(ids)],
                )
            )
        found.append(turns)
    return found


def _oracle_characters(source: ProblemSource, one: JudgedRollout) -> list[str]:
    """Of each turn. Raises `DistilError` for a source without an oracle."""
    rollout = one.rollout
    if isinstance(source, SupervisedTurnSource):
        so_far = turns_so_far(rollout.turns)
        # A first turn that was cut is a single response.
        actions = [turn.action for turn in rollout.turns] or [rollout.response]
        return [
            source.oracle_action_characters(one.problem, so_far[:number], action)
            for number, action in enumerate(actions)
        ]
    if isinstance(source, SupervisedSource):
        return [source.oracle_characters(one.problem, rollout.response)]
    raise DistilError(f"{type(source).__name__} has no oracle to compare with")


def _accuracy(
    workspace: Workspace,
    params: IterationParams,
    turns: Sequence[AskedTurn],
    given: Sequence[Feedback],
) -> LabelAccuracy:
    expert = build_expert(
        params.tabulate,
        workspace.policy_dir(0),
        params.compute,
        params.max_turn_context_tokens,
    )
    renderer = ContextRenderer(params.context, load_tokenizer(workspace.policy_dir(0)))
    queries = []
    for turn, (verdict, items) in zip(turns, given, strict=True):
        name = turn.problem.problem_id
        context = renderer.expert(turn.problem.prompt, turn.attempt, verdict, items, name)
        queries.append(ExpertQuery([*context.token_ids, *turn.before_ids], turn.ids))
    right, erred = [], []
    for turn, answer in zip(turns, expert.answer(queries, no_progress), strict=True):
        first = np.cumsum(answer.distribution.counts_t) - answer.distribution.counts_t
        right.append(np.asarray(answer.distribution.token_ids)[first] == turn.labels)
        erred.append(np.array(turn.ids) != turn.labels)
    right_t, erred_t = np.concatenate(right), np.concatenate(erred)
    return LabelAccuracy(float(right_t.mean()), float(right_t[erred_t].mean()))


if __name__ == "__main__":
    main()
