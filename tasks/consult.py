"""Stage `consult`: tools judge every rollout and give feedback.

Feedback from other sources (the gold solution, a peer, the policy itself) is added where `consult`
asks for it.
"""

from functools import cache

from distil_core.config.models import IterationParams
from distil_core.feedback.consultation import consult_all, non_default_settings
from distil_core.feedback.sources.base import AskablePolicy, SourceSetting
from distil_core.problems.store import read_problems
from distil_core.progress import ProgressCallback
from distil_core.tables.schemas import CONSULTATIONS, ROLLOUTS
from distil_core.tables.store import read_rows, write_table
from distil_core.verifiers.pool import Journal, settings_digest
from distil_core.workspace import Workspace
from distil_tasks.stage import StageSpec, main, prepare_torch


def body(workspace: Workspace, params: IterationParams, progress: ProgressCallback) -> None:
    """Write consultations.parquet, one row for each rollout, in the rollouts' order."""
    iteration = params.iteration
    problems = {
        problem.problem_id: problem
        for problem in read_problems(workspace.problems_dir / "train.parquet")
    }
    rollouts = read_rows(workspace.rollouts_file(iteration), ROLLOUTS)
    digest = settings_digest(params.consult, STAGE.version)
    with Journal(workspace.verification_journal("consult", iteration), digest) as journal:
        setting = SourceSetting(params.seed, cache(lambda: _policy(workspace, params)), progress)
        rows, report = consult_all(
            rollouts,
            problems,
            params.consult,
            params.context,
            params.verification.num_workers,
            journal,
            setting,
            progress,
        )
        context = {
            "iteration": iteration,
            "consult": non_default_settings(params.consult),
            **report,
        }
        write_table(workspace.consultations_file(iteration), CONSULTATIONS, rows, context)
        journal.remove()


def _policy(workspace: Workspace, params: IterationParams) -> AskablePolicy:
    """The policy that sampled the rollouts. Only a source that asks it needs a model; otherwise the
    stage, and each retry, starts without torch."""
    from distil_core.engines import build_engine
    from distil_core.feedback.contexts import ContextRenderer
    from distil_core.policy.tokenizer import load_tokenizer

    prepare_torch(params.compute)
    policy_dir = workspace.parent_dir(params.iteration)
    tokenizer = load_tokenizer(policy_dir)
    return AskablePolicy(
        build_engine(params.sample.engine, policy_dir, params.compute),
        tokenizer,
        ContextRenderer(params.context, tokenizer),
    )


STAGE = StageSpec("consult", version=3, body=body)

if __name__ == "__main__":
    main(STAGE)
