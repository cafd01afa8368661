"""Stage `evaluate`: Pass@N of a policy on held-out problems, without feedback.

It also measures the expert's own accuracy, given the feedback on the policy's attempts.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from distil_core.campaign.chain import sampling_expert_dir
from distil_core.config.models import EvaluateParams, IterationParams
from distil_core.engines import build_engine
from distil_core.engines.base import MonitoredEngine
from distil_core.evaluation.expert_with_feedback import (
    JudgedAttempt,
    expert_scores,
    judged_attempts,
    rollout_logprobs,
    sample_expert,
)
from distil_core.evaluation.judging import EXPERT_NOT_ASKED, ExpertScores, problem_row
from distil_core.evaluation.sampling import (
    by_problem,
    evaluation_requests,
    sampling_settings,
    verify_and_judge,
)
from distil_core.evaluation.summary import GENERALISATION, HELD_OUT, pass_at_k_csv, summarise
from distil_core.experts.end_tokens import OtherEnds
from distil_core.feedback.contexts import ContextRenderer, count_shortened
from distil_core.feedback.sources.base import AskablePolicy, SourceSetting
from distil_core.files import write_text
from distil_core.policy.model import load_model
from distil_core.policy.tokenizer import load_tokenizer, tokenizer_digest
from distil_core.problems.base import Problem
from distil_core.problems.messages import prompt_of
from distil_core.problems.store import read_problems
from distil_core.progress import ProgressCallback, no_progress
from distil_core.rollouts.sampled import require_rollouts
from distil_core.rollouts.sampler import RolloutSampler
from distil_core.seeds import derive_seed
from distil_core.tables.schemas import EVALUATION, EvaluationRow
from distil_core.tables.store import write_table
from distil_core.verifiers import build_verifier
from distil_core.verifiers.pool import Journal, settings_digest
from distil_core.workspace import Workspace
from distil_tasks.stage import StageSpec, main


def body(workspace: Workspace, params: IterationParams, progress: ProgressCallback) -> None:
    """Write evaluation.parquet (a row for each problem), metrics.json and pass_at_k.csv. Problems
    that lack a verdict are counted and left out of all figures. Raises `VerifierError` where there
    are too many of them, and `EngineError` or `EnvironmentFault` where the engine or the
    environment failed on too many."""
    settings = params.evaluate
    policy_dir = workspace.policy_dir(params.iteration)
    tokenizer = load_tokenizer(policy_dir)
    # Refused here, before sampling, where it cannot work.
    build_verifier(params.consult).close()
    engine = build_engine(params.sample.engine, policy_dir, params.compute)
    renderer = ContextRenderer(params.context, tokenizer)
    splits = _read_splits(workspace, params.problems.generalisation is not None)
    problems = [problem for split in splits.values() for problem in split]
    contexts = [renderer.student(prompt_of(problem), problem.problem_id) for problem in problems]
    requests = evaluation_requests(
        problems, [context.token_ids for context in contexts], settings.num_samples, params.seed
    )
    repeated = [problem for problem in problems for _ in range(settings.num_samples)]
    num_workers = params.verification.num_workers
    sampler = RolloutSampler(engine, tokenizer, params.context, num_workers)
    rollouts = sampler.sample(repeated, requests, sampling_settings(settings), progress)
    require_rollouts(rollouts)
    more_metrics = dict(engine.drift()) if isinstance(engine, MonitoredEngine) else {}
    if params.context.shorten:
        more_metrics = {"shortened_contexts": count_shortened(contexts)["contexts"], **more_metrics}
    digest = settings_digest(params.consult, STAGE.version)
    with Journal(workspace.verification_journal("evaluate", params.iteration), digest) as journal:
        flat = verify_and_judge(repeated, rollouts, params.consult, num_workers, journal, progress)
        judged = by_problem(problems, flat, settings.num_samples)
        scores: Mapping[str, ExpertScores] = {}
        expert_dir = sampling_expert_dir(workspace, params.iteration, params.tabulate.expert)
        if settings.num_expert_samples and expert_dir is not None:
            policy = AskablePolicy(engine, tokenizer, renderer)
            attempts = judged_attempts(
                splits[HELD_OUT],
                judged,
                settings.num_expert_samples,
                params.consult.sources,
                renderer,
                SourceSetting(params.seed, lambda: policy, no_progress),
            )
            del engine, sampler, policy  # its memory, before another policy is loaded
            scores, num_missing = _ask_expert(
                workspace, params, attempts, expert_dir, renderer, journal, progress
            )
            if num_missing:
                more_metrics["expert_num_without_verdict"] = num_missing
        rows = [
            problem_row(
                problem.problem_id,
                split,
                judged[problem.problem_id],
                scores.get(problem.problem_id, EXPERT_NOT_ASKED),
            )
            for split, its_problems in splits.items()
            for problem in its_problems
        ]
        digest = tokenizer_digest(tokenizer)
        _write(workspace, params.iteration, settings, rows, digest, more_metrics, params.seed)
        journal.remove()


def _write(
    workspace: Workspace,
    iteration: int,
    settings: EvaluateParams,
    rows: Sequence[EvaluationRow],
    digest: str,
    more_metrics: Mapping[str, float],
    seed: int,
) -> None:
    context = {
        "iteration": iteration,
        "evaluate": settings.model_dump(),
        "tokenizer_digest": digest,
    }
    write_table(workspace.evaluation_file(iteration), EVALUATION, rows, context)
    # The same resamples for every iteration, so that intervals differ by the policy alone.
    resampling_seed = derive_seed(seed, "evaluate")
    metrics = {"iteration": iteration, **summarise(rows, settings.num_bootstrap, resampling_seed)}
    metrics |= more_metrics
    write_text(workspace.metrics_file(iteration), json.dumps(metrics, indent=2) + "\n")
    write_text(workspace.pass_at_k_file(iteration), pass_at_k_csv(metrics))


def _read_splits(workspace: Workspace, with_generalisation: bool) -> dict[str, list[Problem]]:
    names = [HELD_OUT, GENERALISATION] if with_generalisation else [HELD_OUT]
    return {name: read_problems(workspace.problems_dir / f"{name}.parquet") for name in names}


def _ask_expert(
    workspace: Workspace,
    params: IterationParams,
    attempts: Sequence[JudgedAttempt],
    expert_dir: Path,
    renderer: ContextRenderer,
    journal: Journal,
    progress: ProgressCallback,
) -> tuple[dict[str, ExpertScores], int]:
    """By problem, for those on which the expert had feedback to read; and how many of its responses
    have no verdict."""
    settings = sampling_settings(params.evaluate)
    num_workers = params.verification.num_workers
    tokenizer = load_tokenizer(expert_dir)
    sampler = RolloutSampler(
        build_engine(params.sample.engine, expert_dir, params.compute),
        tokenizer,
        params.context,
        num_workers,
    )
    samples = sample_expert(
        attempts, sampler, renderer, settings, params.tabulate.expert, params.seed, progress
    )
    del sampler
    problems = [attempt.problem for attempt in attempts]
    judged = verify_and_judge(problems, samples, params.consult, num_workers, journal, progress)
    # It has the student's tokens, but its checkpoint may name other end tokens.
    policy_dir = workspace.policy_dir(params.iteration)
    ends = OtherEnds.between(load_tokenizer(policy_dir), tokenizer)
    successes = [index for index, response in enumerate(judged) if response.is_correct]
    contexts = [
        renderer.student(prompt_of(attempts[index].problem), attempts[index].name).token_ids
        for index in successes
    ]
    logprobs = rollout_logprobs(
        load_model(policy_dir, params.compute),
        contexts,
        [samples[index] for index in successes],
        ends,
        settings.temperature,
    )
    scores = expert_scores(attempts, judged, dict(zip(successes, logprobs, strict=True)))
    return scores, sum(response.error is not None for response in judged)


STAGE = StageSpec("evaluate", version=4, body=body)

if __name__ == "__main__":
    main(STAGE)
