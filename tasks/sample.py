"""Stage `sample`: the student's own rollouts, on which every later stage works."""

from distil_core.config.models import IterationParams
from distil_core.engines import build_engine
from distil_core.engines.base import MonitoredEngine, SamplingSettings
from distil_core.evaluation.handover import require_policy
from distil_core.feedback.contexts import ContextRenderer, count_shortened
from distil_core.policy.tokenizer import load_tokenizer, tokenizer_digest
from distil_core.problems.choice import choose_problems
from distil_core.problems.messages import prompt_of
from distil_core.problems.store import read_problems
from distil_core.progress import ProgressCallback
from distil_core.rollouts.rows import plan_rollouts, rollout_rows
from distil_core.rollouts.sampled import require_rollouts
from distil_core.rollouts.sampler import RolloutSampler
from distil_core.tables.schemas import ROLLOUTS
from distil_core.tables.store import write_table
from distil_core.workspace import Workspace
from distil_tasks.stage import StageSpec, main


def body(workspace: Workspace, params: IterationParams, progress: ProgressCallback) -> None:
    """Write rollouts.parquet: num_rollouts for each of num_prompts training problems. A rollout
    that the engine could not sample, or its environment not answer, is a row with its error; raises
    `EngineError` or `EnvironmentFault` where there are too many."""
    iteration = params.iteration
    policy_dir = workspace.parent_dir(iteration)
    require_policy(policy_dir)
    tokenizer = load_tokenizer(policy_dir)
    engine = build_engine(params.sample.engine, policy_dir, params.compute)
    problems = choose_problems(
        read_problems(workspace.problems_dir / "train.parquet"),
        params.sample.num_prompts,
        iteration,
        params.seed,
        params.sample.earlier_num_prompts,
    )
    renderer = ContextRenderer(params.context, tokenizer)
    contexts = {
        problem.problem_id: renderer.student(prompt_of(problem), problem.problem_id)
        for problem in problems
    }
    planned = plan_rollouts(
        iteration,
        problems,
        params.sample.num_rollouts,
        {problem_id: context.token_ids for problem_id, context in contexts.items()},
        params.seed,
    )
    settings = SamplingSettings(
        params.sample.max_new_tokens, params.sample.temperature, params.sample.top_p
    )
    sampler = RolloutSampler(engine, tokenizer, params.context, params.verification.num_workers)
    rollouts = sampler.sample(
        [one.problem for one in planned], [one.request for one in planned], settings, progress
    )
    require_rollouts(rollouts)
    context = {
        "iteration": iteration,
        "sample": params.sample.model_dump(),
        "student_template": params.context.model_dump()["student_template"],
        "tokenizer_digest": tokenizer_digest(tokenizer),
    }
    if params.context.environment is not None:
        context["environment"] = params.context.environment.model_dump()
    if params.context.shorten:
        context["num_shortened"] = count_shortened(list(contexts.values()))
    if isinstance(engine, MonitoredEngine):
        context["engine_drift"] = engine.drift()
    rows = rollout_rows(iteration, planned, rollouts)
    write_table(workspace.rollouts_file(iteration), ROLLOUTS, rows, context)


STAGE = StageSpec("sample", version=3, body=body)

if __name__ == "__main__":
    main(STAGE)
