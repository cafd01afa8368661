"""Stage `tabulate`: the expert's distribution at every state the student visited.

The feedback table is all that training reads.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from distil_core.campaign.chain import expert_policy_dir
from distil_core.config.models import IterationParams, TabulateParams
from distil_core.engines.base import ScoredResponse
from distil_core.errors import ConfigError, DataError
from distil_core.experts import build_expert
from distil_core.experts.base import Expert, ExpertAnswer, ExpertQuery, RecordingExpert
from distil_core.feedback.compose import has_feedback
from distil_core.feedback.contexts import ContextRenderer, RenderedContext, count_shortened
from distil_core.policy.tokenizer import check_same_tokenizer, load_tokenizer, tokenizer_digest
from distil_core.problems.base import Problem
from distil_core.problems.store import read_problems
from distil_core.progress import ProgressCallback, no_progress
from distil_core.tables.rounding import round_distributions
from distil_core.tables.schemas import CONSULTATIONS, CONTINUATIONS, FEEDBACK, ROLLOUTS
from distil_core.tables.store import read_rows, read_table, write_shards
from distil_core.training.feedback_rows import CONTINUATIONS_FOLDER
from distil_core.verifiers.base import FeedbackItem
from distil_core.workspace import Workspace
from tasks.stage import StageSpec, main


@dataclass(frozen=True)
class _Judged:
    """A rollout with its consultation and what the expert is to read of them."""

    rollout: dict[str, Any]
    consultation: dict[str, Any]
    problem: Problem
    feedback: list[FeedbackItem]
    context: RenderedContext


def body(workspace: Workspace, params: IterationParams, progress: ProgressCallback) -> None:
    """Write the shards of feedback/. Rollouts without a verdict are left out, those that the
    expert has nothing to say about are rows without expert; both are counted."""
    iteration = params.iteration
    expert_dir = expert_policy_dir(workspace, params)
    tokenizer = load_tokenizer(expert_dir)
    digest = tokenizer_digest(tokenizer)
    rollouts_file = workspace.rollouts_file(iteration)
    rollouts, rollouts_context = read_table(rollouts_file, ROLLOUTS)
    check_same_tokenizer(
        rollouts_context["tokenizer_digest"], digest, workspace.relative(rollouts_file)
    )
    renderer = ContextRenderer(params.context, tokenizer)
    judged = _judged(workspace, params, rollouts.to_pylist(), renderer)
    expert = build_expert(
        params.tabulate,
        expert_dir,
        params.compute,
        params.context.max_context_tokens,
        workspace.expert_record_dir,
        params.seed,
    )
    num_without_feedback = _count_without_feedback(params, judged, expert.needs_feedback)
    context = {
        "iteration": iteration,
        "num_rollouts": rollouts.num_rows,
        "num_without_verdict": rollouts.num_rows - len(judged),
        "num_without_feedback": num_without_feedback,
        "expert_template": params.context.expert_template,
        "tabulate": _as_set(params.tabulate),
        "tokenizer_digest": digest,
    }
    if params.context.shorten:
        context["num_shortened"] = count_shortened([item.context for item in judged])
    if "engine_drift" in rollouts_context:
        context["engine_drift"] = rollouts_context["engine_drift"]
    folder = workspace.feedback_dir(iteration)
    continuations: list[dict[str, Any]] = []
    shards = _shards(expert, judged, renderer, params, continuations, progress)
    compact = params.tabulate.storage == "compact"
    write_shards(folder, FEEDBACK, shards, context, compact)
    if continuations:
        path = folder / CONTINUATIONS_FOLDER
        write_shards(path, CONTINUATIONS, [continuations], context, compact)
    if isinstance(expert, RecordingExpert):
        expert.save_record(folder)


def _as_set(params: TabulateParams) -> dict[str, Any]:
    """The settings without `storage` where it is the default: such tables keep their bytes."""
    exclude = {"storage"} if params.storage == "exact" else None
    return params.model_dump(exclude=exclude)


def _judged(
    workspace: Workspace,
    params: IterationParams,
    rollouts: list[dict[str, Any]],
    renderer: ContextRenderer,
) -> list[_Judged]:
    consultations = read_rows(workspace.consultations_file(params.iteration), CONSULTATIONS)
    ids = [rollout["rollout_id"] for rollout in rollouts]
    if ids != [consultation["rollout_id"] for consultation in consultations]:
        raise DataError(
            f"consultations are not of these rollouts ({len(consultations)} and {len(rollouts)} "
            "rows, or another order): run consult again"
        )
    problems = {
        problem.problem_id: problem
        for problem in read_problems(workspace.problems_dir / "train.parquet")
    }
    judged = []
    for rollout, consultation in zip(rollouts, consultations, strict=True):
        if consultation["reward"] is None:
            continue
        problem = problems[rollout["problem_id"]]
        feedback = [FeedbackItem(**item) for item in consultation["feedback"]]
        context = renderer.expert(
            problem.prompt,
            rollout["response"],
            consultation["verdict"],
            feedback,
            rollout["rollout_id"],
        )
        judged.append(_Judged(rollout, consultation, problem, feedback, context))
    if not judged:
        raise DataError(
            f"none of {len(rollouts)} rollouts has a verdict; the first error is: "
            f"{consultations[0]['error']}"
        )
    return judged


def _count_without_feedback(
    params: IterationParams, judged: list[_Judged], needs_feedback: bool
) -> int:
    """Raises `ConfigError` where there is feedback, but the template takes none of it: every row
    would be masked out, and training on them would change nothing without a word."""
    template = params.context.expert_template
    num_without = sum(not has_feedback(template, item.feedback) for item in judged)
    kinds = sorted({item.kind for row in judged for item in row.feedback if item.text})
    if needs_feedback and num_without == len(judged) and kinds:
        raise ConfigError(
            f"the tools gave feedback of kind {', '.join(kinds)}, but context.expert_template "
            f"takes none of it: name it there in braces; found {template!r}"
        )
    return num_without


def _shards(
    expert: Expert,
    judged: list[_Judged],
    renderer: ContextRenderer,
    params: IterationParams,
    continuations: list[dict[str, Any]],
    progress: ProgressCallback,
) -> Iterator[list[dict[str, Any]]]:
    """The rows, shard by shard; the expert's own are added to `continuations`."""
    template, size = params.context.expert_template, params.tabulate.rows_per_shard
    for start in range(0, len(judged), size):
        shard = judged[start : start + size]
        queries = [
            _query(item)
            if has_feedback(template, item.feedback) or not expert.needs_feedback
            else None
            for item in shard
        ]
        answers = iter(expert.answer([query for query in queries if query], no_progress))
        rows = []
        for item, query in zip(shard, queries, strict=True):
            answer = next(answers) if query else None
            # Asked, but without a usable word at any state: no expert for this row.
            if answer and answer.distribution.is_silent:
                answer = None
            if answer and params.tabulate.storage == "compact":
                answer = _rounded(answer)
            rows.append(_row(item, answer, renderer))
            if answer:
                continuations += _continuation_rows(item, answer)
        yield rows
        progress(min(start + size, len(judged)), len(judged))


def _rounded(answer: ExpertAnswer) -> ExpertAnswer:
    return replace(
        answer,
        distribution=_round(answer.distribution),
        continuations=tuple(
            replace(continuation, distribution=_round(continuation.distribution))
            for continuation in answer.continuations
        ),
    )


def _round(scored: ScoredResponse) -> ScoredResponse:
    logprobs, tail_logprobs_t = round_distributions(
        np.asarray(scored.counts_t),
        np.asarray(scored.logprobs, np.float32),
        np.asarray(scored.tail_logprobs_t, np.float32),
    )
    return replace(scored, logprobs=logprobs, tail_logprobs_t=tail_logprobs_t)


def _query(item: _Judged) -> ExpertQuery:
    return ExpertQuery(
        context_ids=item.context.token_ids,
        response_ids=item.rollout["response_ids"],
        rollout_id=item.rollout["rollout_id"],
        problem=item.problem,
        values=item.context.values,
    )


def _row(item: _Judged, answer: ExpertAnswer | None, renderer: ContextRenderer) -> dict[str, Any]:
    rollout = item.rollout
    if answer and answer.context_ids:
        # The response's own tokens are the student's in both; what they follow must be too.
        renderer.require_same_ending(rollout["context_ids"], answer.context_ids)
    return {
        "rollout_id": rollout["rollout_id"],
        "problem_id": rollout["problem_id"],
        "reward": item.consultation["reward"],
        "context_ids": rollout["context_ids"],
        "expert_context_ids": answer.context_ids if answer else [],
        "response_ids": rollout["response_ids"],
        "behaviour_logprobs": rollout["behaviour_logprobs"],
        "has_expert": answer is not None,
        **_distribution(answer.distribution if answer else None),
    }


def _continuation_rows(item: _Judged, answer: ExpertAnswer) -> list[dict[str, Any]]:
    rollout = item.rollout
    return [
        {
            "rollout_id": rollout["rollout_id"],
            "problem_id": rollout["problem_id"],
            "context_ids": [
                *rollout["context_ids"],
                *rollout["response_ids"][: continuation.position],
            ],
            "response_ids": continuation.token_ids,
            **_distribution(continuation.distribution),
        }
        for continuation in answer.continuations
    ]


def _distribution(scored: ScoredResponse | None) -> dict[str, Any]:
    return {
        "expert_counts": scored.counts_t if scored else [],
        "expert_ids": scored.token_ids if scored else [],
        "expert_logprobs": scored.logprobs if scored else [],
        "expert_tail_logprobs": scored.tail_logprobs_t if scored else [],
    }


STAGE = StageSpec("tabulate", version=3, body=body)

if __name__ == "__main__":
    main(STAGE)
