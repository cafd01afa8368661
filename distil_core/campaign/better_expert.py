"""An iteration's expert beside the policy that it starts from, before anything is spent on it.

The evaluation of that policy has asked the expert already. It is the expert of this iteration where
contexts, feedback and expert are set alike in both.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from distil_core.campaign.chain import sampling_expert_dir
from distil_core.campaign.load import load_iteration_params
from distil_core.config.models import ComputeParams, IterationParams
from distil_core.errors import GateError
from distil_core.evaluation.better_expert import ExpertGain, expert_gain
from distil_core.evaluation.summary import Columns, columns_of
from distil_core.pipeline import Stage
from distil_core.progress import ProgressCallback
from distil_core.seeds import derive_seed
from distil_core.tables.schemas import EVALUATION
from distil_core.tables.store import scan_table
from distil_core.workspace import Workspace

_ADVICE = (
    "Training toward such an expert makes the student worse, so nothing was spent on it. What the "
    "expert reads decides most: other words for the feedback (context.wording, such as "
    "correction: 'Calculator: {expression} = {value}' with keep: corrections), a template without "
    "the attempt or with a worked example (context.expert_template), a stronger expert "
    "(tabulate.expert); `distil preview --policy latest --set context.wording.keep=corrections` "
    "tries each in seconds, `distil restart` takes what helps. More held-out problems "
    "(problems.num_eval) or evaluate.num_expert_samples narrow the interval"
)


@dataclass(frozen=True)
class MeasuredExpert:
    """gain: of the policy that an iteration starts from; None where its evaluation asked no expert.
    policy: the number of its iteration. same_settings: whether the expert asked was set as the
    iteration's own is."""

    gain: ExpertGain | None
    policy: int
    same_settings: bool


def measured_expert(workspace: Workspace, params: IterationParams) -> MeasuredExpert | None:
    """What the evaluation of the policy that the iteration starts from says of its expert; None
    where there is no such evaluation here."""
    file = workspace.handover_evaluation_file(params.iteration - 1)
    if not file.exists():
        return None
    table, context = scan_table(file, EVALUATION)
    policy = int(context["iteration"])
    gain = _gain(columns_of(table), params)
    asked = load_iteration_params(workspace, policy, with_components=False)
    return MeasuredExpert(gain, policy, _expert_settings(asked) == _expert_settings(params))


def evaluated_expert(workspace: Workspace, params: IterationParams) -> ExpertGain | None:
    """The expert beside the iteration's own policy, by its evaluation; None where it was not asked.
    Raises `DataError` where the evaluation is not here."""
    table, _ = scan_table(workspace.evaluation_file(params.iteration), EVALUATION)
    return _gain(columns_of(table), params)


def expert_alarm(workspace: Workspace, stage: Stage, params: IterationParams) -> str | None:
    """What is said in red when an evaluation was made whose expert is not better beyond noise."""
    gain = evaluated_expert(workspace, params) if stage.name == "evaluate" else None
    return None if gain is None or gain.is_better else f"ALARM: {gain.words}"


def require_better_expert(
    workspace: Workspace,
    stage: Stage,
    params: IterationParams,
    prepare: Callable[[ComputeParams], None],
    progress: ProgressCallback,
) -> None:
    """Before an iteration samples or trains, raise `GateError` where gate.require_better_expert is
    true and its expert is not better beyond noise.

    Before sampling the evaluation of the policy to start from tells, where its expert was set
    alike. Where it was not, the expert is asked about the rollouts before training; one that is no
    policy cannot be. prepare: torch, before that.
    """
    if stage.name not in ("sample", "train") or not params.gate.require_better_expert:
        return
    found = measured_expert(workspace, params)
    if found is not None and found.same_settings:
        gain = found.gain
        words = f"{gain.words} (policy {found.policy})" if gain else ""
    else:
        gain = _asked(workspace, params, prepare, progress) if stage.name == "train" else None
        words = gain.words_on("problems of this iteration") if gain else ""
    if gain is None or gain.is_better:
        return
    frozen = workspace.relative(workspace.frozen_params_file(params.iteration))
    raise GateError(
        f"{stage.address(params.iteration)} does not begin, since {words}. {_ADVICE}. To go on "
        f"all the same, set gate.require_better_expert: false in {frozen}, and in params.yaml for "
        "later iterations"
    )


def _asked(
    workspace: Workspace,
    params: IterationParams,
    prepare: Callable[[ComputeParams], None],
    progress: ProgressCallback,
) -> ExpertGain | None:
    expert_dir = sampling_expert_dir(workspace, params.iteration, params.tabulate.expert)
    tables = (
        workspace.rollouts_file(params.iteration),
        workspace.consultations_file(params.iteration),
    )
    # Training itself needs none of these.
    if expert_dir is None or not all(path.exists() for path in (expert_dir, *tables)):
        return None
    from distil_core.evaluation.expert_on_rollouts import gain_on_rollouts

    prepare(params.compute)
    return gain_on_rollouts(workspace, params, expert_dir, progress)


def _gain(columns: Columns, params: IterationParams) -> ExpertGain | None:
    # The same resamples as in `evaluate`, so that the figures are those of metrics.json.
    return expert_gain(columns, params.evaluate.num_bootstrap, derive_seed(params.seed, "evaluate"))


def _expert_settings(params: IterationParams) -> dict[str, Any]:
    values = params.model_dump(mode="json", include={"context", "consult", "tabulate"})
    return values | {"tabulate": values["tabulate"]["expert"]}
