"""Stage `gate`: is the new policy promoted, and which policy does the next iteration start from?"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distil_core.config.models import IterationParams
from distil_core.errors import GateError
from distil_core.evaluation.better_expert import expert_gain
from distil_core.evaluation.comparison import other_sampler, paired_differences
from distil_core.evaluation.decision import GateDecision, write_decision
from distil_core.evaluation.gate import judge_policy
from distil_core.evaluation.handover import forbid_next, hand_over
from distil_core.evaluation.summary import Columns, columns_of
from distil_core.files import atomic_path, link_or_copy
from distil_core.progress import ProgressCallback
from distil_core.seeds import derive_seed
from distil_core.tables.schemas import EVALUATION
from distil_core.tables.store import scan_table
from distil_core.workspace import Workspace
from distil_tasks.stage import StageSpec, main


def body(workspace: Workspace, params: IterationParams, progress: ProgressCallback) -> None:
    """Write decision.json, handover/ (the policy for the next iteration), and the evaluations of
    the champion and of the policy handed over, with which later iterations are compared."""
    iteration = params.iteration
    new_file = workspace.evaluation_file(iteration)
    champion_file = workspace.champion_evaluation_file(iteration - 1)
    parent_file = workspace.handover_evaluation_file(iteration - 1)
    new, context = _read(new_file)
    champion, champion_context = _read(champion_file)
    parent, parent_context = _read(parent_file)
    champion_iteration = int(champion_context["iteration"])
    parent_iteration = int(parent_context["iteration"])
    # The same resamples as in `evaluate`, so that differences are consistent with the scores.
    seed = derive_seed(params.seed, "evaluate")
    num_bootstrap = params.evaluate.num_bootstrap
    from_champion = paired_differences(new, champion, num_bootstrap, seed)
    from_parent = paired_differences(new, parent, num_bootstrap, seed)
    obstacles = _obstacles(context, champion_context)
    verdict = judge_policy(new, champion, from_champion, params.gate, obstacles)
    goes_on = verdict.is_promoted or params.gate.on_regression == "continue"
    stops = not verdict.is_promoted and params.gate.on_regression == "stop"
    reasons = "; ".join(verdict.reasons)
    decision = GateDecision(
        iteration=iteration,
        promoted=verdict.is_promoted,
        stopped=stops,
        champion=iteration if verdict.is_promoted else champion_iteration,
        handed_over=iteration if goes_on else parent_iteration,
        parent=parent_iteration,
        compared_with=champion_iteration,
        reasons=reasons,
        from_champion=from_champion,
        from_parent=from_parent,
        # Iterations of before there was the setting keep the bytes of their decisions.
        expert=expert_gain(new if goes_on else parent, num_bootstrap, seed)
        if params.gate.require_better_expert is not None
        else None,
    )
    policy_dir, parent_dir = workspace.policy_dir(iteration), workspace.parent_dir(iteration)
    handover_dir = workspace.handover_dir(iteration)
    if stops:
        forbid_next(iteration, reasons, handover_dir)
    else:
        handed_dir = policy_dir if goes_on else parent_dir
        hand_over(handed_dir, policy_dir, handover_dir, _taken_along(workspace, params, decision))
    _pass_on(
        new_file if verdict.is_promoted else champion_file,
        workspace.champion_evaluation_file(iteration),
    )
    _pass_on(new_file if goes_on else parent_file, workspace.handover_evaluation_file(iteration))
    write_decision(workspace, decision)


def _taken_along(
    workspace: Workspace, params: IterationParams, decision: GateDecision
) -> Path | None:
    """The champion, where it is asked for and neither the policy that is handed over nor in its
    folder already."""
    handed, champion = decision.handed_over, decision.champion
    if not params.gate.keep_champion or handed in (champion, decision.parent):
        return None
    champion_dir = workspace.parent_champion_dir(params.iteration)
    if champion_dir == workspace.parent_dir(params.iteration) and decision.parent != champion:
        raise GateError(
            f"gate.keep_champion of iteration {params.iteration}: the champion, policy {champion}, "
            f"did not come along with policy {decision.parent}, which this iteration started from. "
            "Set it from the first iteration on (`distil restart`)"
        )
    return champion_dir


def _read(path: Path) -> tuple[Columns, Mapping[str, Any]]:
    """The held-out problems of an evaluation, and the settings it was made with."""
    evaluation, context = scan_table(path, EVALUATION)
    return columns_of(evaluation), context


def _obstacles(context: Mapping[str, Any], champion_context: Mapping[str, Any]) -> list[str]:
    """Why the two evaluations do not show which policy is better, if so."""
    other = other_sampler(context.get("evaluate", {}), champion_context.get("evaluate", {}))
    if other is None:
        return []
    return [
        f"evaluated with another sampler than the champion ({other}), so that their scores cannot "
        "be compared: evaluate alike, or start over with `distil restart`"
    ]


def _pass_on(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        link_or_copy(str(source), str(temporary))


STAGE = StageSpec("gate", version=1, body=body)

if __name__ == "__main__":
    main(STAGE)
