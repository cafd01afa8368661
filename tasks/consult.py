"""Stage `consult`: tools judge every rollout and say what they saw."""

from typing import Any

from distil_core.config.models import IterationParams
from distil_core.errors import DataError, VerifierError
from distil_core.problems.base import Problem
from distil_core.problems.store import read_problems
from distil_core.progress import ProgressCallback
from distil_core.tables.schemas import CONSULTATIONS, ROLLOUTS
from distil_core.tables.store import read_rows, write_table
from distil_core.tools import build_verifier
from distil_core.tools.base import Verifier
from distil_core.workspace import Workspace
from tasks.stage import StageSpec, main


def body(workspace: Workspace, params: IterationParams, progress: ProgressCallback) -> None:
    """Write consultations.parquet, one row for each rollout, in the rollouts' order."""
    iteration = params.iteration
    verifier = build_verifier(params.consult)
    problems = {
        problem.problem_id: problem
        for problem in read_problems(workspace.problems_dir / "train.parquet")
    }
    rollouts = read_rows(workspace.rollouts_file(iteration), ROLLOUTS)
    rows = []
    for done, rollout in enumerate(rollouts):
        problem = problems.get(rollout["problem_id"])
        if problem is None:
            raise DataError(
                f"rollout {rollout['rollout_id']} is of problem {rollout['problem_id']}, which is "
                "not in data/problems/train.parquet: sample again"
            )
        rows.append(consult(verifier, problem, rollout))
        progress(done + 1, len(rollouts))
    context = {"iteration": iteration, "consult": params.consult.model_dump()}
    write_table(workspace.consultations_file(iteration), CONSULTATIONS, rows, context)


def consult(verifier: Verifier, problem: Problem, rollout: dict[str, Any]) -> dict[str, Any]:
    """The consultation of one rollout. A truncated response gets no reward whatever it holds; a
    rollout or verifier that failed gives a row with the error and no reward."""
    row: dict[str, Any] = {
        "rollout_id": rollout["rollout_id"],
        "reward": None,
        "verdict": "error",
        "feedback": [],
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
    }


STAGE = StageSpec("consult", per_iteration=True, version=1, body=body)

if __name__ == "__main__":
    main(STAGE)
