"""One run of the study: iterations of one method from a base, held-out pass@k after each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.objectives.bench import Bench
from benchmarks.objectives.labels import Judged, feedback_rows, gold_rows
from benchmarks.objectives.methods import METHODS
from benchmarks.objectives.settings import COMPUTE
from distil_core.config.models import Component, TrainParams
from distil_core.engines.base import SampleRequest, SamplingSettings
from distil_core.engines.transformers import TransformersEngine
from distil_core.evaluation.judging import judge_samples, problem_row, require_verdicts
from distil_core.evaluation.pass_at_k import pass_at_k, powers_of_two_up_to
from distil_core.feedback.consultation import consult
from distil_core.files import write_text
from distil_core.objectives import OBJECTIVES
from distil_core.policy.conventions import end_token_ids
from distil_core.policy.model import load_model
from distil_core.policy.tokenizer import decode
from distil_core.problems.base import Problem
from distil_core.problems.choice import choose_problems
from distil_core.progress import no_progress
from distil_core.rollouts.rows import PlannedRollout, rollout_rows
from distil_core.rollouts.sampled import SampledRollout
from distil_core.seeds import derive_seed
from distil_core.training.feedback_rows import FeedbackRows
from distil_core.training.state import TrainingSetup
from distil_core.training.trainer import train

_ENGINE_ROWS = 1024


@dataclass(frozen=True)
class Run:
    """One cell of the study. purpose: 'tuning' is evaluated on validation problems after the last
    iteration, 'test' on test problems after each."""

    task: str
    method: str
    learning_rate: float
    seed: int
    purpose: Literal["tuning", "test"]


def execute(bench: Bench, run: Run, file: Path) -> None:
    """The run, and its result as a small JSON file that is there only when the run is whole."""
    task, budget, method = bench.task, bench.task.budget, METHODS[run.method]
    model = load_model(bench.base_dir, COMPUTE)
    engine = TransformersEngine(model, end_token_ids(bench.tokenizer), _ENGINE_ROWS)
    objective = OBJECTIVES.build(method.objective, method.options)
    params = TrainParams(
        objective=Component(name=method.objective, options=method.options),
        num_steps=budget.num_steps,
        batch_rollouts=budget.batch_rollouts,
        learning_rate=run.learning_rate,
        final_learning_rate_fraction=0.2,
        warmup_steps=0,
        weight_decay=0.01,
        max_grad_norm=1.0,
    )
    testing = run.purpose == "test"
    curve = [evaluate(bench, engine, bench.test)] if testing else []
    for iteration in range(1, budget.num_iterations + 1):
        rows = (
            gold_rows(task, _gold_problems(bench, iteration), bench.tokenizer)
            if method.states == "gold"
            else _student_rows(bench, engine, iteration)
        )
        seed = derive_seed(run.seed, iteration, "train")
        train(model, rows, objective, TrainingSetup(params, seed), no_progress)
        if testing:
            curve.append(evaluate(bench, engine, bench.test))
    if not testing:
        curve.append(evaluate(bench, engine, bench.validation))
    result = {**vars(run), "curve": curve}
    write_text(file, json.dumps(result, indent=1) + "\n")


def evaluate(
    bench: Bench, engine: TransformersEngine, problems: Sequence[Problem]
) -> dict[str, float]:
    """pass@k and shapes of responses, without feedback; the same random numbers every time."""
    num_samples = bench.task.budget.num_samples
    jobs = [(problem, index) for problem in problems for index in range(num_samples)]
    responses = _sample(bench, engine, _requests(bench, jobs, "evaluate"))
    judged = judge_samples([problem for problem, _ in jobs], responses, bench.verifier)
    require_verdicts(judged, max_missing=0)
    rows = [
        problem_row(
            problem.problem_id,
            "eval",
            judged[start * num_samples : (start + 1) * num_samples],
        )
        for start, problem in enumerate(problems)
    ]
    num_correct_p = np.array([row.num_correct for row in rows], dtype=np.int64)
    metrics = {
        f"pass_at_{k}": float(pass_at_k(num_correct_p, num_samples, k).mean())
        for k in powers_of_two_up_to(num_samples)
    }
    for name in ("num_malformed", "num_distinct", "response_tokens_mean"):
        metrics[name] = float(np.mean([getattr(row, name) for row in rows]))
    return metrics


def _student_rows(bench: Bench, engine: TransformersEngine, iteration: int) -> FeedbackRows:
    budget = bench.task.budget
    problems = choose_problems(bench.splits["train"], budget.num_prompts, iteration, bench.seed)
    jobs = [(problem, index) for problem in problems for index in range(budget.num_rollouts)]
    requests = _requests(bench, jobs, f"sample-{iteration}")
    planned = [PlannedRollout(*job, request) for job, request in zip(jobs, requests, strict=True)]
    responses = _sample(bench, engine, requests)
    rollouts = rollout_rows(iteration, planned, responses)
    judged = [
        Judged(problem, rollout, consult(bench.verifier, problem, rollout))
        for (problem, _), rollout in zip(jobs, rollouts, strict=True)
    ]
    return feedback_rows(judged, bench.labeller(judged))


def _gold_problems(bench: Bench, iteration: int) -> list[Problem]:
    """As many as the other methods have rollouts, so that tokens and steps are the same."""
    budget = bench.task.budget
    number = budget.num_prompts * budget.num_rollouts
    return choose_problems(bench.splits["train"], number, iteration, bench.seed)


def _requests(
    bench: Bench, jobs: Sequence[tuple[Problem, int]], purpose: str
) -> list[SampleRequest]:
    return [
        SampleRequest(
            bench.context_ids(problem),
            derive_seed(bench.seed, purpose, problem.problem_id, index),
        )
        for problem, index in jobs
    ]


def _sample(
    bench: Bench, engine: TransformersEngine, requests: Sequence[SampleRequest]
) -> list[SampledRollout]:
    settings = SamplingSettings(bench.task.budget.max_new_tokens, temperature=1.0, top_p=1.0)
    return [
        SampledRollout.of_response(response, decode(bench.tokenizer, response.token_ids))
        for response in engine.sample(requests, settings, no_progress)
    ]
