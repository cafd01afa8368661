"""The expert's own answers to an iteration's rollouts, beside these rollouts: what is known of an
expert that no evaluation has asked yet."""

from pathlib import Path

import numpy as np

from distil_core.config.models import IterationParams
from distil_core.engines import build_engine
from distil_core.engines.base import SamplingSettings
from distil_core.evaluation.better_expert import ExpertGain, expert_gain
from distil_core.evaluation.expert_with_feedback import JudgedAttempt, sample_expert
from distil_core.evaluation.sampling import verify_and_judge
from distil_core.feedback.contexts import ContextRenderer
from distil_core.feedback.transcript import attempt_text, feedback_on
from distil_core.policy.tokenizer import load_tokenizer
from distil_core.problems.store import read_problems
from distil_core.progress import ProgressCallback
from distil_core.rollouts.sampler import RolloutSampler
from distil_core.seeds import derive_seed
from distil_core.tables.schemas import CONSULTATIONS, ROLLOUTS
from distil_core.tables.store import read_rows
from distil_core.verifiers.pool import Journal, settings_digest
from distil_core.workspace import Workspace

MOST_PROBLEMS = 256
"""So many show a gain of .1; asking costs a rollout of each."""

_VERDICTS = "expert"
"""The journal's name, beside those of stages."""


def gain_on_rollouts(
    workspace: Workspace, params: IterationParams, expert_dir: Path, progress: ProgressCallback
) -> ExpertGain | None:
    """Ask the expert once about each of the iteration's first problems, by the rollout with the
    lowest number on which it has feedback to read; None where there is none. A student's accuracy
    is that of all rollouts of these problems.

    expert_dir: the checkpoint with the expert's weights. Reads rollouts and consultations.
    """
    iteration = params.iteration
    tokenizer = load_tokenizer(expert_dir)
    renderer = ContextRenderer(params.context, tokenizer)
    problems = {
        problem.problem_id: problem
        for problem in read_problems(workspace.problems_dir / "train.parquet")
    }
    attempts: dict[str, JudgedAttempt] = {}
    correct: dict[str, list[bool]] = {}
    consultations = read_rows(workspace.consultations_file(iteration), CONSULTATIONS)
    rollouts = read_rows(workspace.rollouts_file(iteration), ROLLOUTS)
    for rollout, judged in zip(rollouts, consultations, strict=True):
        if judged.reward is None:
            continue
        name = rollout.problem_id
        correct.setdefault(name, []).append(judged.verdict == "correct")
        asks = len(attempts) < MOST_PROBLEMS and renderer.has_feedback(feedback_on(rollout, judged))
        if name not in attempts and asks:
            attempts[name] = JudgedAttempt(
                problems[name],
                rollout.sample_index,
                attempt_text(rollout, params.context),
                judged.verdict,
                feedback_on(rollout, judged),
            )
    if not attempts:
        return None
    answers = _judged_answers(
        workspace, params, expert_dir, renderer, list(attempts.values()), progress
    )
    known = [
        (is_right, correct[name])
        for name, is_right in zip(attempts, answers, strict=True)
        if is_right is not None
    ]
    ones = np.ones(len(known), np.int64)
    columns = {
        "num_samples": ones,
        "num_correct": np.array([float(np.mean(each)) for _, each in known]),
        "expert_num_samples": ones,
        "expert_num_correct": np.array([float(is_right) for is_right, _ in known]),
    }
    seed = derive_seed(params.seed, "evaluate")
    return expert_gain(columns, params.evaluate.num_bootstrap, seed) if known else None


def _judged_answers(
    workspace: Workspace,
    params: IterationParams,
    expert_dir: Path,
    renderer: ContextRenderer,
    attempts: list[JudgedAttempt],
    progress: ProgressCallback,
) -> list[bool | None]:
    """Whether each of the expert's answers is right; None without a verdict."""
    sample = params.sample
    sampler = RolloutSampler(
        build_engine(sample.engine, expert_dir, params.compute),
        load_tokenizer(expert_dir),
        params.context,
        params.verification.num_workers,
    )
    sampling = SamplingSettings(sample.max_new_tokens, sample.temperature, sample.top_p)
    responses = sample_expert(
        attempts, sampler, renderer, sampling, params.tabulate.expert, params.seed, progress
    )
    path = workspace.verification_journal(_VERDICTS, params.iteration)
    with Journal(path, settings_digest(params.consult, 1)) as journal:
        judged = verify_and_judge(
            [attempt.problem for attempt in attempts],
            responses,
            params.consult,
            params.verification.num_workers,
            journal,
            progress,
        )
        journal.remove()
    return [None if answer.error is not None else answer.is_correct for answer in judged]
