"""Stage `tabulate`: the expert's distribution at every state that the student visited.

Training reads nothing but the feedback table.
"""

from typing import Any

from distil_core.campaign.chain import expert_policy_dir
from distil_core.config.models import IterationParams, TabulateParams, WordingParams
from distil_core.experts import EXPERTS, build_expert
from distil_core.experts.base import RecordingExpert
from distil_core.feedback.contexts import ContextRenderer, count_shortened
from distil_core.policy.tokenizer import check_same_tokenizer, load_tokenizer, tokenizer_digest
from distil_core.problems.store import read_problems
from distil_core.progress import ProgressCallback
from distil_core.tables.schemas import (
    CONSULTATIONS,
    CONTINUATIONS,
    CONTINUATIONS_FOLDER,
    FEEDBACK,
    ROLLOUTS,
)
from distil_core.tables.store import read_rows, read_table, write_shards
from distil_core.training.feedback_table import Labeller, count_without_feedback, judged_rollouts
from distil_core.workspace import Workspace
from distil_tasks.stage import StageSpec, main


def body(workspace: Workspace, params: IterationParams, progress: ProgressCallback) -> None:
    """Write the shards of feedback/. Rollouts without a verdict are left out, and those about which
    the expert has nothing to say are rows without expert; both are counted."""
    iteration = params.iteration
    expert_dir = expert_policy_dir(workspace, iteration, params.tabulate.expert)
    tokenizer = load_tokenizer(expert_dir)
    digest = tokenizer_digest(tokenizer)
    rollouts_file = workspace.rollouts_file(iteration)
    rollouts, rollouts_context = read_table(rollouts_file, ROLLOUTS)
    check_same_tokenizer(
        rollouts_context["tokenizer_digest"], digest, workspace.relative(rollouts_file)
    )
    renderer = ContextRenderer(params.context, tokenizer)
    judged = judged_rollouts(
        ROLLOUTS.to_rows(rollouts),
        read_rows(workspace.consultations_file(iteration), CONSULTATIONS),
        {
            problem.problem_id: problem
            for problem in read_problems(workspace.problems_dir / "train.parquet")
        },
        renderer,
    )
    expert = build_expert(
        params.tabulate,
        expert_dir,
        params.compute,
        params.max_turn_context_tokens,
        workspace.expert_record_dir,
        params.seed,
    )
    num_without_feedback = count_without_feedback(renderer, judged, expert.needs_feedback)
    context = {
        "iteration": iteration,
        "num_rollouts": rollouts.num_rows,
        "num_without_verdict": rollouts.num_rows - len(judged),
        "num_without_feedback": num_without_feedback,
        "expert_template": params.context.model_dump()["expert_template"],
        "tabulate": _as_set(params.tabulate),
        "tokenizer_digest": digest,
    }
    if params.context.wording != WordingParams():
        context["wording"] = params.context.wording.model_dump()
    temperature = EXPERTS.options(
        params.tabulate.expert.name, params.tabulate.expert.options
    ).distribution_temperature
    if temperature != 1.0:
        context["expert_temperature"] = temperature
    if params.context.shorten:
        context["num_shortened"] = count_shortened([item.context for item in judged])
    if "engine_drift" in rollouts_context:
        context["engine_drift"] = rollouts_context["engine_drift"]
    folder = workspace.feedback_dir(iteration)
    labeller = Labeller(expert, renderer, params.tabulate)
    compact = params.tabulate.storage == "compact"
    write_shards(folder, FEEDBACK, labeller.shards(judged, progress), context, compact)
    if labeller.continuations:
        path = folder / CONTINUATIONS_FOLDER
        write_shards(path, CONTINUATIONS, [labeller.continuations], context, compact)
    if isinstance(expert, RecordingExpert):
        expert.save_record(folder)


def _as_set(params: TabulateParams) -> dict[str, Any]:
    """The settings without `storage` where it is the default: such tables keep their bytes."""
    exclude = {"storage"} if params.storage == "exact" else None
    return params.model_dump(exclude=exclude)


STAGE = StageSpec("tabulate", version=3, body=body)

if __name__ == "__main__":
    main(STAGE)
