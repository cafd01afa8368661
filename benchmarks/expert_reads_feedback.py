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
from distil_core.problems.base import Problem, SupervisedSource
from distil_core.problems.store import read_problems
from distil_core.progress import no_progress
from distil_core.tables.schemas import CONSULTATIONS, ROLLOUTS
from distil_core.tables.store import read_rows
from distil_core.verifiers.base import FeedbackItem
from distil_core.workspace import Workspace

Feedback = tuple[str, list[FeedbackItem]]
"""The verdict and what came with it."""

Row = tuple[Problem, str, list[int], Feedback]


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
    rows = _rows(workspace)
    # Rollouts of one problem lie together: the next one's would be of the same problem.
    shift = params.sample.num_rollouts
    silent: list[Feedback] = [("", []) for _ in rows]
    kinds = {
        "with its feedback": [row[3] for row in rows],
        "with another problem's feedback": [row[3] for row in (*rows[shift:], *rows[:shift])],
        "without feedback": silent,
    }
    return {name: _accuracy(workspace, params, rows, given) for name, given in kinds.items()}


def _rows(workspace: Workspace) -> list[Row]:
    problems = {
        problem.problem_id: problem
        for problem in read_problems(workspace.problems_dir / "train.parquet")
    }
    rollouts = read_rows(workspace.rollouts_file(1), ROLLOUTS)
    consultations = read_rows(workspace.consultations_file(1), CONSULTATIONS)
    return [
        (
            problems[rollout.problem_id],
            rollout.response,
            list(rollout.response_ids),
            (consultation.verdict, list(consultation.feedback)),
        )
        for rollout, consultation in zip(rollouts, consultations, strict=True)
    ]


def _accuracy(
    workspace: Workspace, params: IterationParams, rows: Sequence[Row], given: Sequence[Feedback]
) -> LabelAccuracy:
    expert = build_expert(
        params.tabulate,
        workspace.policy_dir(0),
        params.compute,
        params.context.max_context_tokens,
    )
    source = build_source(params.problems)
    if not isinstance(source, SupervisedSource):
        raise DistilError(f"{params.problems.source.name} has no oracle to compare with")
    tokenizer = load_tokenizer(workspace.policy_dir(0))
    renderer = ContextRenderer(params.context, tokenizer)
    queries = []
    for (problem, text, ids, _), (verdict, items) in zip(rows, given, strict=True):
        context = renderer.expert(problem.prompt, text, verdict, items, problem.problem_id)
        queries.append(ExpertQuery(context.token_ids, ids))
    right, erred = [], []
    for (problem, text, ids, _), answer in zip(
        rows, expert.answer(queries, no_progress), strict=True
    ):
        labels = encode_text(tokenizer, source.oracle_characters(problem, text))
        labels = (labels + [int(tokenizer.eos_token_id)] * len(ids))[: len(ids)]
        first = np.cumsum(answer.distribution.counts_t) - answer.distribution.counts_t
        right.append(answer.distribution.token_ids[first] == labels)
        erred.append(np.array(ids) != labels)
    right_t, erred_t = np.concatenate(right), np.concatenate(erred)
    return LabelAccuracy(float(right_t.mean()), float(right_t[erred_t].mean()))


if __name__ == "__main__":
    main()
