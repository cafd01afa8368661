"""Stage `consult`: tools judge every rollout and say what they saw.

Feedback from elsewhere (the gold solution, a peer, the policy itself) joins theirs where
`consult` asks for it.
"""

from collections.abc import Mapping
from typing import Any

from distil_core.config.models import ConsultParams, IterationParams, SelfEvaluationParams
from distil_core.errors import DataError, VerifierError
from distil_core.feedback.peers import Attempt, peer_solutions
from distil_core.problems.base import Problem
from distil_core.problems.store import read_problems
from distil_core.progress import ProgressCallback
from distil_core.tables.schemas import CONSULTATIONS, ROLLOUTS
from distil_core.tables.store import read_rows, write_table
from distil_core.verifiers.base import Verifier
from distil_core.verifiers.pool import (
    Journal,
    JournalVerifier,
    VerificationJob,
    settings_digest,
    verify_all,
)
from distil_core.workspace import Workspace
from tasks.stage import StageSpec, main, prepare_torch


def body(workspace: Workspace, params: IterationParams, progress: ProgressCallback) -> None:
    """Write consultations.parquet, one row for each rollout, in the rollouts' order."""
    iteration = params.iteration
    problems = {
        problem.problem_id: problem
        for problem in read_problems(workspace.problems_dir / "train.parquet")
    }
    rollouts = read_rows(workspace.rollouts_file(iteration), ROLLOUTS)
    answered = [rollout for rollout in rollouts if rollout["error"] is None]
    jobs = (
        VerificationJob(_problem(problems, rollout), rollout["response"]) for rollout in answered
    )
    digest = settings_digest(params.consult, STAGE.version)
    with Journal(workspace.verification_journal("consult", iteration), digest) as journal:
        num_workers = params.verification.num_workers
        verify_all(jobs, len(answered), params.consult, num_workers, journal, progress)
        verifier = JournalVerifier(journal)
        rows = [consult(verifier, _problem(problems, rollout), rollout) for rollout in rollouts]
        context = _add_other_feedback(workspace, params, problems, rollouts, rows, progress)
        write_table(workspace.consultations_file(iteration), CONSULTATIONS, rows, context)
        journal.remove()


def _problem(problems: Mapping[str, Problem], rollout: dict[str, Any]) -> Problem:
    problem = problems.get(rollout["problem_id"])
    if problem is None:
        raise DataError(
            f"rollout {rollout['rollout_id']} is of problem {rollout['problem_id']}, which is "
            "not in data/problems/train.parquet: sample again"
        )
    return problem


def _add_other_feedback(
    workspace: Workspace,
    params: IterationParams,
    problems: Mapping[str, Problem],
    rollouts: list[dict[str, Any]],
    rows: list[dict[str, Any]],
    progress: ProgressCallback,
) -> dict[str, Any]:
    """Adds to the rows what `consult` asks for besides tools; returns the table's context."""
    context = {"iteration": params.iteration, "consult": _as_set(params.consult)}
    judged = [
        (rollout, row)
        for rollout, row in zip(rollouts, rows, strict=True)
        if row["reward"] is not None
    ]
    if params.consult.reference_correction:
        for rollout, row in judged:
            reference = problems[rollout["problem_id"]].reference
            row["feedback"].append({"kind": "expert_correction", "text": reference})
    if params.consult.peer_solution:
        context["num_with_peer"] = _add_peer_solutions(judged, params.seed)
    if params.consult.self_evaluation:
        prompts = {problem.problem_id: problem.prompt for problem in problems.values()}
        context["self_evaluation"] = _add_self_evaluations(
            judged, prompts, workspace, params, params.consult.self_evaluation, progress
        )
    return context


def _as_set(params: ConsultParams) -> dict[str, Any]:
    """The settings without those that are off, or as they usually are."""
    defaults = {
        name: field.default
        for name, field in ConsultParams.model_fields.items()
        if not field.is_required()
    }
    return {
        name: value
        for name, value in params.model_dump().items()
        if name not in defaults or value not in (None, defaults[name])
    }


def _add_peer_solutions(judged: list[tuple[dict[str, Any], dict[str, Any]]], seed: int) -> int:
    """Adds to the rows' feedback; returns how many rollouts have a peer."""
    peers = peer_solutions(
        [
            Attempt(
                rollout["rollout_id"],
                rollout["problem_id"],
                rollout["response"],
                row["verdict"] == "correct",
            )
            for rollout, row in judged
        ],
        seed,
    )
    for rollout, row in judged:
        if item := peers.get(rollout["rollout_id"]):
            row["feedback"].append({"kind": item.kind, "text": item.text})
    return len(peers)


def _add_self_evaluations(
    judged: list[tuple[dict[str, Any], dict[str, Any]]],
    prompts: Mapping[str, str],
    workspace: Workspace,
    params: IterationParams,
    settings: SelfEvaluationParams,
    progress: ProgressCallback,
) -> dict[str, Any]:
    """Adds to the rows' feedback what the policy that sampled them says of its attempts; returns
    how its verdicts and the tools' agree."""
    # Only this needs a model: without it the stage, and each retry, starts without torch.
    from distil_core.engines import build_engine
    from distil_core.feedback.contexts import ContextRenderer
    from distil_core.feedback.self_evaluation import agreement, as_feedback, evaluate_own
    from distil_core.policy.tokenizer import load_tokenizer

    prepare_torch(params.compute)
    policy_dir = workspace.parent_dir(params.iteration)
    tokenizer = load_tokenizer(policy_dir)
    verdicts = evaluate_own(
        [
            (rollout["rollout_id"], prompts[rollout["problem_id"]], rollout["response"])
            for rollout, _ in judged
        ],
        settings,
        build_engine(params.sample.engine, policy_dir, params.compute),
        tokenizer,
        ContextRenderer(params.context, tokenizer),
        params.seed,
        progress,
    )
    for (_, row), verdict in zip(judged, verdicts, strict=True):
        if item := as_feedback(verdict, row["verdict"], settings):
            row["feedback"].append({"kind": item.kind, "text": item.text})
    return agreement(verdicts, [row["verdict"] for _, row in judged])


def consult(verifier: Verifier, problem: Problem, rollout: dict[str, Any]) -> dict[str, Any]:
    """The consultation of one rollout. A truncated response gets no reward whatever it holds; a
    rollout or verifier that failed gives a row with the error and no reward."""
    row: dict[str, Any] = {
        "rollout_id": rollout["rollout_id"],
        "reward": None,
        "verdict": "error",
        "feedback": [],
        "isolation": None,
        "error": rollout["error"],
    }
    if rollout["error"] is not None:
        return row
    try:
        verification = verifier.verify(problem, rollout["response"])
    except VerifierError as error:
        return {**row, "error": str(error)}
    truncated = rollout["finish_reason"] == "length"
    return {
        **row,
        "reward": 0.0 if truncated else verification.reward,
        "verdict": "truncated" if truncated else verification.verdict,
        "feedback": [{"kind": item.kind, "text": item.text} for item in verification.feedback],
        "isolation": verification.isolation,
    }


STAGE = StageSpec("consult", version=3, body=body)

if __name__ == "__main__":
    main(STAGE)
