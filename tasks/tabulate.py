"""Stage `tabulate`: the expert's distribution at every state the student visited.

The feedback table is all that training reads.
"""

from collections.abc import Iterator
from typing import Any

from distil_core.config.campaign import expert_iteration
from distil_core.config.models import IterationParams
from distil_core.errors import DataError
from distil_core.experts import build_expert
from distil_core.experts.base import Expert, ExpertAnswer, ExpertQuery
from distil_core.feedback.compose import has_feedback, render_expert
from distil_core.policy.tokenizer import check_same_tokenizer, load_tokenizer, tokenizer_digest
from distil_core.problems.store import read_problems
from distil_core.progress import ProgressCallback, no_progress
from distil_core.tables.schemas import CONSULTATIONS, FEEDBACK, ROLLOUTS
from distil_core.tables.store import read_rows, read_table, write_shards
from distil_core.tools.base import FeedbackItem
from distil_core.workspace import Workspace
from tasks.stage import StageSpec, main


def body(workspace: Workspace, params: IterationParams, progress: ProgressCallback) -> None:
    """Write the shards of feedback/. Rollouts without a verdict are left out, and counted."""
    iteration = params.iteration
    expert_dir = workspace.policy_dir(expert_iteration(params))
    digest = tokenizer_digest(load_tokenizer(expert_dir))
    rollouts_file = workspace.rollouts_file(iteration)
    rollouts, rollouts_context = read_table(rollouts_file, ROLLOUTS)
    check_same_tokenizer(
        rollouts_context["tokenizer_digest"], digest, workspace.relative(rollouts_file)
    )
    consultations = read_rows(workspace.consultations_file(iteration), CONSULTATIONS)
    pairs = _judged(rollouts.to_pylist(), consultations)
    expert = build_expert(
        params.tabulate, expert_dir, params.compute, params.context.max_context_tokens
    )
    prompts = {
        problem.problem_id: problem.prompt
        for problem in read_problems(workspace.problems_dir / "train.parquet")
    }
    context = {
        "iteration": iteration,
        "num_rollouts": rollouts.num_rows,
        "num_without_verdict": rollouts.num_rows - len(pairs),
        "expert_template": params.context.expert_template,
        "tabulate": params.tabulate.model_dump(),
        "tokenizer_digest": digest,
    }
    shards = _shards(expert, pairs, prompts, params, progress)
    write_shards(workspace.feedback_dir(iteration), FEEDBACK, shards, context)


def _judged(
    rollouts: list[dict[str, Any]], consultations: list[dict[str, Any]]
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    ids = [rollout["rollout_id"] for rollout in rollouts]
    if ids != [consultation["rollout_id"] for consultation in consultations]:
        raise DataError(
            f"consultations are not of these rollouts ({len(consultations)} and {len(rollouts)} "
            "rows, or another order): run consult again"
        )
    pairs = zip(rollouts, consultations, strict=True)
    judged = [(rollout, verdict) for rollout, verdict in pairs if verdict["reward"] is not None]
    if not judged:
        raise DataError(
            f"none of {len(rollouts)} rollouts has a verdict; the first error is: "
            f"{consultations[0]['error']}"
        )
    return judged


def _shards(
    expert: Expert,
    pairs: list[tuple[dict[str, Any], dict[str, Any]]],
    prompts: dict[str, str],
    params: IterationParams,
    progress: ProgressCallback,
) -> Iterator[list[dict[str, Any]]]:
    template, size = params.context.expert_template, params.tabulate.rows_per_shard
    for start in range(0, len(pairs), size):
        shard = pairs[start : start + size]
        queries: list[ExpertQuery | None] = []
        for rollout, consultation in shard:
            feedback = [FeedbackItem(**item) for item in consultation["feedback"]]
            context = render_expert(
                template,
                prompts[rollout["problem_id"]],
                rollout["response"],
                consultation["verdict"],
                feedback,
            )
            queries.append(
                ExpertQuery(context, rollout["response_ids"])
                if has_feedback(template, feedback)
                else None
            )
        answers = iter(expert.answer([query for query in queries if query], no_progress))
        yield [
            _row(rollout, consultation, next(answers) if query else None)
            for (rollout, consultation), query in zip(shard, queries, strict=True)
        ]
        progress(min(start + size, len(pairs)), len(pairs))


def _row(
    rollout: dict[str, Any], consultation: dict[str, Any], answer: ExpertAnswer | None
) -> dict[str, Any]:
    distribution = answer.distribution if answer else None
    if answer and answer.context_ids[-1] != rollout["context_ids"][-1]:
        raise DataError(
            f"rollout {rollout['rollout_id']}: the student's context ends in token "
            f"{rollout['context_ids'][-1]}, the expert's in {answer.context_ids[-1]}: let both "
            "templates end in the same text, up to a special token or a space"
        )
    return {
        "rollout_id": rollout["rollout_id"],
        "problem_id": rollout["problem_id"],
        "reward": consultation["reward"],
        "context_ids": rollout["context_ids"],
        "expert_context_ids": answer.context_ids if answer else [],
        "response_ids": rollout["response_ids"],
        "behaviour_logprobs": rollout["behaviour_logprobs"],
        "has_expert": answer is not None,
        "expert_counts": distribution.counts_t if distribution else [],
        "expert_ids": distribution.token_ids if distribution else [],
        "expert_logprobs": distribution.logprobs if distribution else [],
        "expert_tail_logprobs": distribution.tail_logprobs_t if distribution else [],
    }


STAGE = StageSpec("tabulate", per_iteration=True, version=1, body=body)

if __name__ == "__main__":
    main(STAGE)
