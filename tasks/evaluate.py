"""Stage `evaluate`: Pass@N of a policy on held-out problems, without feedback.

Beside it the expert's own accuracy, with the feedback on the policy's attempts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distil_core.campaign.chain import sampling_expert_dir
from distil_core.config.models import IterationParams
from distil_core.engines import build_engine
from distil_core.engines.base import (
    MonitoredEngine,
    SampledResponse,
    SampleRequest,
    SamplingSettings,
)
from distil_core.errors import VerifierError
from distil_core.evaluation.expert_with_feedback import (
    JudgedAttempt,
    expert_columns,
    judged_attempts,
    response_logprobs,
    sample_expert,
)
from distil_core.evaluation.judging import (
    EXPERT_NOT_ASKED,
    JudgedResponse,
    problem_row,
    require_verdicts,
)
from distil_core.evaluation.summary import GENERALISATION, HELD_OUT, pass_at_k_csv, summarise
from distil_core.feedback.contexts import ContextRenderer, RenderedContext, count_shortened
from distil_core.files import write_text
from distil_core.policy.model import load_model
from distil_core.policy.tokenizer import decode, load_tokenizer, tokenizer_digest
from distil_core.problems.base import Problem
from distil_core.problems.store import read_problems
from distil_core.progress import ProgressCallback
from distil_core.seeds import derive_seed
from distil_core.tables.schemas import EVALUATION
from distil_core.tables.store import write_table
from distil_core.verifiers import build_verifier
from distil_core.verifiers.base import Verifier
from distil_core.verifiers.pool import (
    Journal,
    JournalVerifier,
    VerificationJob,
    settings_digest,
    verify_all,
)
from distil_core.workspace import Workspace
from tasks.stage import StageSpec, main

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def body(workspace: Workspace, params: IterationParams, progress: ProgressCallback) -> None:
    """Write evaluation.parquet (a row for each problem), metrics.json and pass_at_k.csv. Problems
    that lack a verdict are in no figure, and counted; `VerifierError` where these are too many."""
    policy_dir = workspace.policy_dir(params.iteration)
    tokenizer = load_tokenizer(policy_dir)
    # One that cannot work here is refused before anything is sampled.
    build_verifier(params.consult).close()
    engine = build_engine(params.sample.engine, policy_dir, params.compute)
    renderer = ContextRenderer(params.context, tokenizer)
    splits = _read_splits(workspace, params)
    problems = [problem for split in splits.values() for problem in split]
    contexts = [renderer.student(problem.prompt, problem.problem_id) for problem in problems]
    responses = engine.sample(_requests(problems, contexts, params), _sampling(params), progress)
    more_metrics = dict(engine.drift()) if isinstance(engine, MonitoredEngine) else {}
    digest = settings_digest(params.consult, STAGE.version)
    with Journal(workspace.verification_journal("evaluate", params.iteration), digest) as journal:
        num_samples = params.evaluate.num_samples
        repeated = [problem for problem in problems for _ in range(num_samples)]
        flat = _verify_and_judge(repeated, responses, params, journal, tokenizer, progress)
        judged = {
            problem.problem_id: flat[index * num_samples : (index + 1) * num_samples]
            for index, problem in enumerate(problems)
        }
        columns: dict[str, dict[str, Any]] = {}
        expert_dir = sampling_expert_dir(workspace, params)
        if params.evaluate.num_expert_samples and expert_dir is not None:
            attempts = judged_attempts(
                splits[HELD_OUT], judged, params, engine, renderer, tokenizer
            )
            del engine  # its memory, before another policy is loaded
            columns, num_missing = _ask_expert(
                workspace, params, attempts, expert_dir, renderer, journal, progress
            )
            if num_missing:
                more_metrics["expert_num_without_verdict"] = num_missing
        rows = [
            problem_row(problem.problem_id, split, judged[problem.problem_id])
            | columns.get(problem.problem_id, dict(EXPERT_NOT_ASKED))
            for split, its_problems in splits.items()
            for problem in its_problems
        ]
        _write(workspace, params, rows, tokenizer, contexts, more_metrics)
        journal.remove()


def _write(
    workspace: Workspace,
    params: IterationParams,
    rows: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    contexts: Sequence[RenderedContext],
    more_metrics: Mapping[str, float],
) -> None:
    iteration, settings = params.iteration, params.evaluate
    context = {
        "iteration": iteration,
        "evaluate": settings.model_dump(),
        "tokenizer_digest": tokenizer_digest(tokenizer),
    }
    write_table(workspace.evaluation_file(iteration), EVALUATION, rows, context)
    # The same resamples for every iteration, so that intervals differ by the policy alone.
    seed = derive_seed(params.seed, "evaluate")
    metrics = {"iteration": iteration, **summarise(rows, settings.num_bootstrap, seed)}
    if params.context.shorten:
        metrics["shortened_contexts"] = count_shortened(contexts)["contexts"]
    metrics |= more_metrics
    write_text(workspace.metrics_file(iteration), json.dumps(metrics, indent=2) + "\n")
    write_text(workspace.pass_at_k_file(iteration), pass_at_k_csv(metrics))


def judge_samples(
    problems: Sequence[Problem],
    samples: Sequence[SampledResponse],
    texts: Sequence[str],
    verifier: Verifier,
) -> list[JudgedResponse]:
    """Each sample with its verdict, or the `VerifierError` in place of one; problems, samples and
    their texts in one order."""
    judged = []
    for problem, sample, text in zip(problems, samples, texts, strict=True):
        response = JudgedResponse(
            text=text,
            num_tokens=len(sample.token_ids),
            logprob=sum(sample.behaviour_logprobs),
            is_truncated=sample.finish_reason == "length",
            verdict="error",
            answer=None,
        )
        try:
            found = verifier.verify(problem, text)
            response = replace(
                response, verdict=found.verdict, answer=found.answer, feedback=found.feedback
            )
        except VerifierError as error:
            response = replace(response, error=str(error))
        judged.append(response)
    return judged


def _verify_and_judge(
    problems: Sequence[Problem],
    samples: Sequence[SampledResponse],
    params: IterationParams,
    journal: Journal,
    tokenizer: PreTrainedTokenizerBase,
    progress: ProgressCallback,
) -> list[JudgedResponse]:
    texts = [decode(tokenizer, sample.token_ids) for sample in samples]
    jobs = map(VerificationJob, problems, texts)
    num_workers = params.verification.num_workers
    verify_all(jobs, len(samples), params.consult, num_workers, journal, progress)
    judged = judge_samples(problems, samples, texts, JournalVerifier(journal))
    require_verdicts(judged)
    return judged


def _read_splits(workspace: Workspace, params: IterationParams) -> dict[str, list[Problem]]:
    splits = {HELD_OUT: read_problems(workspace.problems_dir / "eval.parquet")}
    if params.problems.generalisation is not None:
        path = workspace.problems_dir / "generalisation.parquet"
        splits[GENERALISATION] = read_problems(path)
    return splits


def _sampling(params: IterationParams) -> SamplingSettings:
    settings = params.evaluate
    return SamplingSettings(settings.max_new_tokens, settings.temperature, settings.top_p)


def _requests(
    problems: Sequence[Problem], contexts: Sequence[RenderedContext], params: IterationParams
) -> list[SampleRequest]:
    requests = []
    for problem, context in zip(problems, contexts, strict=True):
        for index in range(params.evaluate.num_samples):
            # Not by iteration: the same numbers for every policy make differences sharper.
            seed = derive_seed(params.seed, "evaluate", problem.problem_id, index)
            requests.append(SampleRequest(context.token_ids, seed))
    return requests


def _ask_expert(
    workspace: Workspace,
    params: IterationParams,
    attempts: Sequence[JudgedAttempt],
    expert_dir: Path,
    renderer: ContextRenderer,
    journal: Journal,
    progress: ProgressCallback,
) -> tuple[dict[str, dict[str, Any]], int]:
    """The expert's columns by problem, of the problems on which it had feedback to read; and how
    many of its responses have no verdict."""
    expert = build_engine(params.sample.engine, expert_dir, params.compute)
    samples = sample_expert(attempts, expert, renderer, _sampling(params), params.seed, progress)
    del expert
    problems = [attempt.problem for attempt in attempts]
    # Of the same tokens as the student's, but its checkpoint may name other ends.
    tokenizer = load_tokenizer(expert_dir)
    judged = _verify_and_judge(problems, samples, params, journal, tokenizer, progress)
    successes = [index for index, response in enumerate(judged) if response.is_correct]
    contexts = [
        renderer.student(attempts[index].problem.prompt, attempts[index].name).token_ids
        for index in successes
    ]
    logprobs = response_logprobs(
        load_model(workspace.policy_dir(params.iteration), params.compute),
        contexts,
        [samples[index].token_ids for index in successes],
        params.evaluate.temperature,
    )
    columns = expert_columns(attempts, judged, dict(zip(successes, logprobs, strict=True)))
    return columns, sum(response.error is not None for response in judged)


STAGE = StageSpec("evaluate", version=4, body=body)

if __name__ == "__main__":
    main(STAGE)
