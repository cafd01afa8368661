"""The pipeline of a campaign, said once: its stages in order, what each reads, writes and uses.

`dvc.yaml` says the same to DVC, which reads no Python; tests/lineage/test_dvc_pipeline.py compares
the two word for word. Whoever needs a stage's name, its paths or its place in the order asks here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from distil_core.config.models import Component, Params
from distil_core.workspace import Workspace, iteration_key

ComponentKind = Literal[
    "problem source",
    "verifier",
    "environment",
    "engine",
    "expert",
    "objective",
    "feedback source",
]

_LAYOUT = Workspace(Path("/"))


@dataclass(frozen=True)
class Plot:
    """What `dvc plots show` draws of all iterations' tables. template: in `.dvc/plots/`."""

    template: str
    x: str
    y: str
    x_label: str
    y_label: str
    title: str


@dataclass(frozen=True)
class Artifact:
    """A file or folder that a stage writes.

    locate: its path in a workspace, by iteration. title: as people read it in a lineage, with the
    iteration's key in braces; None for measurements, which nothing is made from. listed_as: its
    key in iterations.yaml, where DVC, which has no arithmetic, cannot tell its path from the
    iteration's.
    """

    locate: Callable[[Workspace, int], Path]
    title: str | None = None
    listed_as: str | None = None

    def path(self, iteration: int) -> str:
        """From the workspace's root, as dvc.yaml and dvc.lock write it."""
        return _LAYOUT.relative(self.locate(_LAYOUT, iteration))


def _problems(split: str, title: str) -> Artifact:
    return Artifact(lambda workspace, _: workspace.problems_dir / f"{split}.parquet", title=title)


WARM_START_PROBLEMS = _problems("warm_start", "warm-start problems")
TRAIN_PROBLEMS = _problems("train", "training problems")
EVAL_PROBLEMS = _problems("eval", "evaluation problems")
GENERALISATION_PROBLEMS = _problems("generalisation", "generalisation problems")
BASE_POLICY = Artifact(lambda workspace, _: workspace.policy_dir(0), title="policy 000 (base)")
ROLLOUTS = Artifact(Workspace.rollouts_file, title="rollouts {key}")
CONSULTATIONS = Artifact(Workspace.consultations_file, title="consultations {key}")
FEEDBACK = Artifact(Workspace.feedback_dir, title="feedback {key}")
POLICY = Artifact(Workspace.policy_dir, title="policy {key}", listed_as="policy")
TRAIN_CURVE = Artifact(Workspace.train_curve_file)
EVALUATION = Artifact(Workspace.evaluation_file)
METRICS = Artifact(Workspace.metrics_file)
PASS_AT_K = Artifact(Workspace.pass_at_k_file)
HANDOVER = Artifact(Workspace.handover_dir)
HANDOVER_EVALUATION = Artifact(Workspace.handover_evaluation_file)
CHAMPION_EVALUATION = Artifact(Workspace.champion_evaluation_file)
DECISION = Artifact(Workspace.decision_file)

PARENT_POLICY = Artifact(Workspace.parent_dir, listed_as="parent_policy")
"""What the iteration before handed over, or the base."""
_PARENT_EVALUATION = Artifact(
    lambda workspace, iteration: workspace.handover_evaluation_file(iteration - 1),
    listed_as="parent_evaluation",
)
_CHAMPION_SO_FAR = Artifact(
    lambda workspace, iteration: workspace.champion_evaluation_file(iteration - 1),
    listed_as="champion_evaluation",
)


@dataclass(frozen=True)
class Use:
    """Components of one kind that a stage uses.

    find: their names and options in the settings; empty where these settings ask for none.
    """

    kind: ComponentKind
    find: Callable[[Params], tuple[Component, ...]]


def _learns_from_problems(params: Params) -> bool:
    """Whether the base is warm-started on the campaign's problems."""
    base = params.base
    if base.kind == "from_scratch":
        return True
    return base.warm_start is not None and base.warm_start.file is None


def _sources_of_base(params: Params) -> tuple[Component, ...]:
    """What corrections for a pretrained base are made with; one made here has the verifier's."""
    gathers = params.base.kind == "pretrained" and _learns_from_problems(params)
    return params.consult.sources if gathers else ()


def _harder_source(params: Params) -> tuple[Component, ...]:
    harder = params.problems.generalisation_source
    return () if harder is None else (harder,)


def _environment(params: Params) -> tuple[Component, ...]:
    environment = params.context.environment
    return () if environment is None else (environment,)


def _environment_of_base(params: Params) -> tuple[Component, ...]:
    """What answers demonstrations of several turns."""
    return _environment(params) if params.base.kind == "from_scratch" else ()


def _may_ask_the_policy(params: Params) -> bool:
    """Only a source's own code says whether it does."""
    return params.consult.self_evaluation is not None or bool(params.consult.feedback_sources)


_SOURCE = Use("problem source", lambda params: (params.problems.source,))
_HARDER_SOURCE = Use("problem source", _harder_source)
_ENGINE = Use("engine", lambda params: (params.sample.engine,))
_VERIFIER = Use("verifier", lambda params: (params.consult.verifier,))
_ENVIRONMENT = Use("environment", _environment)
_EXPERT = Use("expert", lambda params: (params.tabulate.expert,))
_OBJECTIVE = Use("objective", lambda params: (params.train.objective,))
_SOURCE_OF_BASE = Use(
    "problem source",
    lambda params: (params.problems.source,) if _learns_from_problems(params) else (),
)
_VERIFIER_OF_BASE = Use(
    "verifier",
    lambda params: (params.consult.verifier,) if _learns_from_problems(params) else (),
)
_ENVIRONMENT_OF_BASE = Use("environment", _environment_of_base)
_FEEDBACK_SOURCES_OF_BASE = Use("feedback source", _sources_of_base)
_ENGINE_OF_SOURCES = Use(
    "engine", lambda params: (params.sample.engine,) if _may_ask_the_policy(params) else ()
)
_FEEDBACK_SOURCES = Use("feedback source", lambda params: params.consult.sources)


@dataclass(frozen=True)
class Stage:
    """One stage of the pipeline.

    first_iteration: from which on there is one for each; None for a stage made once, which reads
    the settings of iteration 0. settings: keys of the frozen settings that it reads, besides
    `stage_versions`. reads, writes: artifacts. uses: components whose code decides what it writes.
    reads_expert_policy: whether it reads the checkpoint
    with the expert's weights too, which only the settings can tell. uses_torch: whether it always
    computes with torch; `consult` does where the policy judges itself.
    """

    name: str
    description: str
    first_iteration: int | None
    settings: tuple[str, ...]
    reads: tuple[Artifact, ...]
    writes: tuple[Artifact, ...]
    uses: tuple[Use, ...] = ()
    reads_expert_policy: bool = False
    uses_torch: bool = True

    @property
    def per_iteration(self) -> bool:
        """Whether there is one for each iteration."""
        return self.first_iteration is not None

    @property
    def settings_read(self) -> tuple[str, ...]:
        """The keys of the frozen settings that dvc.yaml lists, its version and code among them."""
        return (*self.settings, f"stage_versions.{self.name}")

    def address(self, iteration: int) -> str:
        """The stage as DVC addresses it, for example `sample@003`."""
        return f"{self.name}@{iteration_key(iteration)}" if self.per_iteration else self.name

    def command(self, iteration: int) -> str:
        """What `dvc repro` runs."""
        argument = f" --iteration {iteration_key(iteration)}" if self.per_iteration else ""
        return f"python -m distil_tasks.{self.name}{argument}"


PROBLEMS = Stage(
    "problems",
    "Problems to warm-start, train and evaluate on, disjoint",
    first_iteration=None,
    # The verifier must be able to read each problem's reference.
    settings=("seed", "problems", "consult.verifier"),
    reads=(),
    writes=(WARM_START_PROBLEMS, TRAIN_PROBLEMS, EVAL_PROBLEMS, GENERALISATION_PROBLEMS),
    uses=(_SOURCE, _HARDER_SOURCE, _VERIFIER),
    uses_torch=False,
)
BASE = Stage(
    "base",
    "The base policy, a Hugging Face folder",
    first_iteration=None,
    settings=("seed", "compute", "problems.source", "context", "consult", "base"),
    reads=(WARM_START_PROBLEMS,),
    writes=(BASE_POLICY,),
    uses=(
        _SOURCE_OF_BASE,
        _VERIFIER_OF_BASE,
        _FEEDBACK_SOURCES_OF_BASE,
        _ENVIRONMENT_OF_BASE,
    ),
)
SAMPLE = Stage(
    "sample",
    "The parent policy's rollouts on prompts of its own",
    first_iteration=1,
    settings=("seed", "compute", "context", "sample"),
    reads=(TRAIN_PROBLEMS, PARENT_POLICY),
    writes=(ROLLOUTS,),
    uses=(_ENGINE, _ENVIRONMENT),
)
CONSULT = Stage(
    "consult",
    "Reward and feedback for each rollout",
    first_iteration=1,
    settings=("seed", "compute", "context", "sample.engine", "consult"),
    reads=(TRAIN_PROBLEMS, ROLLOUTS, PARENT_POLICY),
    writes=(CONSULTATIONS,),
    uses=(_VERIFIER, _FEEDBACK_SOURCES, _ENGINE_OF_SOURCES),
    uses_torch=False,
)
TABULATE = Stage(
    "tabulate",
    "The expert's distributions at the states the student visited",
    first_iteration=1,
    settings=("seed", "compute", "context", "tabulate"),
    reads=(TRAIN_PROBLEMS, ROLLOUTS, CONSULTATIONS),
    writes=(FEEDBACK,),
    uses=(_EXPERT,),
    reads_expert_policy=True,
)
TRAIN = Stage(
    "train",
    "The next policy, trained on the feedback tables",
    first_iteration=1,
    settings=("seed", "compute", "train"),
    reads=(FEEDBACK, PARENT_POLICY),
    writes=(POLICY, TRAIN_CURVE),
    uses=(_OBJECTIVE,),
)
EVALUATE = Stage(
    "evaluate",
    "Pass@N on held-out problems, without feedback; the expert's accuracy with it",
    first_iteration=0,
    settings=(
        *("seed", "compute", "problems.generalisation", "context", "sample.engine", "consult"),
        *("tabulate.expert", "evaluate"),
    ),
    reads=(EVAL_PROBLEMS, GENERALISATION_PROBLEMS, POLICY),
    writes=(EVALUATION, METRICS, PASS_AT_K),
    uses=(_ENGINE, _ENVIRONMENT, _VERIFIER, _FEEDBACK_SOURCES, _EXPERT),
    reads_expert_policy=True,
)
GATE = Stage(
    "gate",
    "Whether the policy is promoted, and which one the next iteration starts from",
    first_iteration=1,
    settings=("seed", "evaluate.num_bootstrap", "gate"),
    reads=(EVALUATION, _PARENT_EVALUATION, _CHAMPION_SO_FAR, POLICY, PARENT_POLICY),
    writes=(HANDOVER, HANDOVER_EVALUATION, CHAMPION_EVALUATION, DECISION),
    uses_torch=False,
)

STAGES = (PROBLEMS, BASE, SAMPLE, CONSULT, TABULATE, TRAIN, EVALUATE, GATE)
"""In the order they run."""

_BY_NAME = {stage.name: stage for stage in STAGES}

_LINES = "lines_by_iteration"

CURVES = {
    "loss": Plot(_LINES, "step", "loss", "optimizer step", "loss", "Training loss by iteration"),
    "cross_entropy": Plot(
        *(_LINES, "step", "cross_entropy", "optimizer step", "cross-entropy (nats per token)"),
        "Cross-entropy to the expert by iteration",
    ),
}
"""Columns of a training curve that `dvc plots show` draws over all iterations."""

SCORES = Plot(
    *("scores_over_iterations", "k", "pass_at_k", "k", "pass@k"),
    "Held-out pass@k over iterations",
)
"""What it draws of all iterations' pass@k."""

PLOTS = (
    SCORES,
    Plot(_LINES, "k", SCORES.y, "k", "pass@k", "Held-out pass@k by iteration"),
    *CURVES.values(),
)
"""All that it draws, in order."""


def stage_named(name: str) -> Stage:
    """The stage of that name; `KeyError` where there is none."""
    return _BY_NAME[name]


def stages_of(iteration: int) -> list[Stage]:
    """The stages that belong to an iteration, in the order they run. Iteration 0 has those made
    once, which make the problems and the base policy."""
    return [
        stage
        for stage in STAGES
        if (iteration == 0 if stage.first_iteration is None else stage.first_iteration <= iteration)
    ]


def stage_addresses(iteration: int) -> list[str]:
    """The same as DVC addresses them."""
    return [stage.address(iteration) for stage in stages_of(iteration)]


def last_address(iteration: int) -> str:
    """The stage that all others of the iteration come before."""
    return stage_addresses(iteration)[-1]
