"""Does the expert read its feedback? Label accuracy with it, without it, and with another row's.

`python -m benchmarks.expert_reads_feedback` after `make run`: scores iteration 1's rollouts with
the base policy's weights, as the campaign's expert does, at every state the student visited. The
label is what the program says should come next there (the problem source's oracle).
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from distil_core.config import load_iteration_params
from distil_core.errors import DistilError
from distil_core.experts import build_expert
from distil_core.experts.base import ExpertQuery
from distil_core.feedback.compose import render_expert
from distil_core.policy.tokenizer import encode_text, load_tokenizer
from distil_core.problems import build_source
from distil_core.problems.base import Problem, SupervisedSource
from distil_core.problems.store import read_problems
from distil_core.progress import no_progress
from distil_core.tables.schemas import CONSULTATIONS, ROLLOUTS
from distil_core.tables.store import read_rows
from distil_core.tools.base import FeedbackItem
from distil_core.workspace import Workspace

Row = tuple[Problem, str, list[int], str, list[FeedbackItem]]


def main() -> None:
    """Print one line for each kind of feedback."""
    workspace = Workspace(Path.cwd())
    try:
        rows = _rows(workspace)
        rotated = [row[3:] for row in (*rows[1:], rows[0])]
        own = [row[3:] for row in rows]
        silent: list[tuple[str, list[FeedbackItem]]] = [("", []) for _ in rows]
        print(f"{len(rows)} rollouts of iteration 1; expert's most likely token is the oracle's:")
        for name, feedback in (
            ("with its feedback", own),
            ("with another rollout's feedback", rotated),
            ("without feedback", silent),
        ):
            print(f"  {name:32s} {_accuracy(workspace, rows, feedback):.4f}")
    except DistilError as error:
        sys.exit(f"{error}")


def _rows(workspace: Workspace) -> list[Row]:
    problems = {
        problem.problem_id: problem
        for problem in read_problems(workspace.problems_dir / "train.parquet")
    }
    rollouts = read_rows(workspace.rollouts_file(1), ROLLOUTS)
    consultations = read_rows(workspace.consultations_file(1), CONSULTATIONS)
    return [
        (
            problems[rollout["problem_id"]],
            rollout["response"],
            rollout["response_ids"],
            consultation["verdict"],
            [FeedbackItem(**item) for item in consultation["feedback"]],
        )
        for rollout, consultation in zip(rollouts, consultations, strict=True)
    ]


def _accuracy(
    workspace: Workspace,
    rows: Sequence[Row],
    feedback: Sequence[tuple[str, list[FeedbackItem]]],
) -> float:
    params = load_iteration_params(workspace, 1)
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
    template = params.context.expert_template
    queries = [
        ExpertQuery(render_expert(template, problem.prompt, text, verdict, items), ids)
        for (problem, text, ids, _, _), (verdict, items) in zip(rows, feedback, strict=True)
    ]
    right = total = 0
    answers = expert.answer(queries, no_progress)
    for (problem, text, ids, _, _), answer in zip(rows, answers, strict=True):
        labels = encode_text(tokenizer, source.oracle_characters(problem, text))
        labels = (labels + [int(tokenizer.eos_token_id)] * len(ids))[: len(ids)]
        first = np.cumsum(answer.distribution.counts_t) - answer.distribution.counts_t
        right += int((answer.distribution.token_ids[first] == labels).sum())
        total += len(labels)
    return right / total


if __name__ == "__main__":
    main()
