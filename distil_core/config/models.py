"""The typed settings of a campaign. Frozen; an unknown key or an impossible combination is refused.

The defaults live in `params.yaml`, where each has its reason beside it: a setting missing from
the file is an error, so that what ran is always what can be read.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import Field, PositiveInt, model_validator

from distil_core.config._base import (
    Component,
    Fraction,
    NonNegative,
    Positive,
    PositiveFraction,
    Settings,
    added,
)
from distil_core.config._base_policy import (
    ArchitectureParams,
    BaseParams,
    FromScratchBase,
    PretrainedBase,
)
from distil_core.config._checks import MINIMA, CheckLimits, CheckParams
from distil_core.config._contexts import (
    ContextParams,
    ExpertChatParams,
    ShorteningRule,
    Template,
    TemplateMessage,
    WordingParams,
)
from distil_core.config._environment import EnvironmentParams
from distil_core.config._feedback import ConsultParams, SelfEvaluationParams
from distil_core.config._gate import AlarmParams, GateParams
from distil_core.config._stages import (
    ComputeParams,
    EvaluateParams,
    ResumeParams,
    SampleParams,
    TabulateParams,
    VerificationParams,
)
from distil_core.config._training import (
    TILED_HEAD_ABOVE,
    DecisionParams,
    Layout,
    LinearSchedule,
    LoraParams,
    OnePassLayout,
    TrainParams,
)
from distil_core.config._warm_start import (
    AttemptParams,
    SupervisedFile,
    WarmStartParams,
    WarmStartPhase,
)

__all__ = [
    "MINIMA",
    "READ_BY_NO_STAGE",
    "SCHEMA_VERSION",
    "TILED_HEAD_ABOVE",
    "AlarmParams",
    "ArchitectureParams",
    "AttemptParams",
    "BaseParams",
    "CheckLimits",
    "CheckParams",
    "Component",
    "ComputeParams",
    "ConsultParams",
    "ContextParams",
    "DecisionParams",
    "EnvironmentParams",
    "EvaluateParams",
    "ExpertChatParams",
    "Fraction",
    "FromScratchBase",
    "GateParams",
    "GeneralisationParams",
    "IterationParams",
    "Layout",
    "LinearSchedule",
    "LoraParams",
    "NonNegative",
    "OnePassLayout",
    "Params",
    "Positive",
    "PositiveFraction",
    "PretrainedBase",
    "ProblemParams",
    "ResumeParams",
    "SampleParams",
    "SelfEvaluationParams",
    "Settings",
    "ShorteningRule",
    "SupervisedFile",
    "TabulateParams",
    "Template",
    "TemplateMessage",
    "TrainParams",
    "VerificationParams",
    "WarmStartParams",
    "WarmStartPhase",
    "WordingParams",
    "added",
]


class GeneralisationParams(Settings):
    """Held-out problems longer or harder than those trained on: the `eval` split of the same source
    with other options."""

    num_problems: PositiveInt
    """How many."""
    options: dict[str, Any] = Field(min_length=1)
    """In place of the source's own of the same names."""


class ProblemParams(Settings):
    """Where problems come from, and the sizes of three sets, disjoint by problem."""

    source: Component
    """Where problems come from."""
    num_warm_start: Annotated[int, Field(ge=0)]
    """Problems that a base is warm-started on: one made here, or a pretrained one with
    base.warm_start; otherwise 0."""
    num_train: PositiveInt | Literal["all"]
    """Problems to sample from; `all` that the source's files hold."""
    num_eval: PositiveInt | Literal["all"]
    """Held-out problems; `all` of the files' held-out part."""
    generalisation: GeneralisationParams | None = None
    """A fourth set, longer or harder problems to evaluate on; null for none."""

    @property
    def generalisation_source(self) -> Component | None:
        """The source of the generalisation problems."""
        if self.generalisation is None:
            return None
        options = self.source.options | self.generalisation.options
        return Component(name=self.source.name, options=options)


_LLAMA_LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def _require_llama_layers(targets: tuple[str, ...]) -> None:
    for target in targets:
        if target.rpartition(".")[2] not in _LLAMA_LAYERS:
            raise ValueError(
                f"train.lora.target_modules: {target!r} is no linear layer that a policy made here "
                f"can adapt: choose among {', '.join(_LLAMA_LAYERS)}"
            )


_READ_NO_EXPERT = frozenset({"grpo"})
"""Objectives that learn from rewards alone."""

READ_BY_NO_STAGE = frozenset({"num_iterations", "verification", "resume", "checks"})
"""Sections of `Params` that no stage in dvc.yaml depends on: they change no iteration."""


class Params(Settings):
    """All of `params.yaml`."""

    campaign: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    """The campaign's name, in MLflow, tags and Prefect: lower-case letters, digits and hyphens."""
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    """All random choices are made from it."""
    num_iterations: PositiveInt
    """Iterations that `distil restart` freezes, besides the base."""
    compute: ComputeParams
    """Where and how exactly models compute."""
    problems: ProblemParams
    """Where problems come from."""
    base: BaseParams
    """The policy that the first iteration starts from."""
    context: ContextParams
    """How a problem and its feedback become text."""
    sample: SampleParams
    """The rollouts of an iteration."""
    consult: ConsultParams
    """Reward and feedback for each rollout."""
    verification: VerificationParams = VerificationParams()
    """How verdicts are come by."""
    resume: ResumeParams = ResumeParams()
    """How much work an interruption may cost."""
    tabulate: TabulateParams
    """The expert's distributions."""
    train: TrainParams
    """How a policy is trained."""
    evaluate: EvaluateParams
    """Scores on held-out problems."""
    gate: GateParams
    """Whether a new policy takes over."""
    checks: CheckParams = CheckParams()
    """Limits of the checks that each table is put to."""

    @model_validator(mode="after")
    def _possible(self) -> "Params":
        self.gate.name_scores(self.evaluate.num_samples)
        if type(self) is Params:
            # The class is frozen for all others; a frozen iteration means what it says.
            object.__setattr__(self, "gate", self._gate_with_its_default())
        self._require_known_margins()
        num_train = self.problems.num_train
        if num_train != "all" and self.sample.num_prompts > num_train:
            raise ValueError(
                f"sample.num_prompts {self.sample.num_prompts} exceeds "
                f"problems.num_train {num_train}: lower it, or make more problems"
            )
        if self.train.batch_rollouts % self.sample.num_rollouts:
            raise ValueError(
                f"train.batch_rollouts {self.train.batch_rollouts} must be a multiple of "
                f"sample.num_rollouts {self.sample.num_rollouts}: groups are never split"
            )
        num_rollouts = self.sample.num_prompts * self.sample.num_rollouts
        if self.train.batch_rollouts > num_rollouts:
            raise ValueError(
                f"train.batch_rollouts {self.train.batch_rollouts} exceeds the {num_rollouts} "
                "rollouts of an iteration, sample.num_prompts times sample.num_rollouts: lower it, "
                "or sample more"
            )
        if self.base.kind == "from_scratch" and not self.problems.num_warm_start:
            raise ValueError(
                "base.kind from_scratch needs problems.num_warm_start > 0 to learn from"
            )
        num_corrections = self.base.num_corrections if self.base.kind == "from_scratch" else None
        if (num_corrections or 0) > self.problems.num_warm_start:
            raise ValueError(
                f"base.num_corrections {num_corrections} exceeds problems.num_warm_start "
                f"{self.problems.num_warm_start}, which they are made of: lower it, or leave it out"
            )
        self._require_problems_of_warm_start()
        if self.base.kind == "from_scratch" and self.train.lora is not None:
            _require_llama_layers(self.train.lora.target_modules)
        if self.base.kind == "from_scratch" and self.context.chat:
            raise ValueError(
                "context.chat needs a base with a chat template: a policy made here has none, "
                "write the turns into the templates, or use base.kind pretrained"
            )
        if self.base.kind == "from_scratch":
            self._require_enough_positions(self.base.architecture.max_positions)
        return self

    @property
    def max_turn_context_tokens(self) -> int:
        """The longest context in which a turn is written or scored: the rollout's own context, and
        all turns before."""
        environment = self.context.environment
        if environment is None:
            return self.context.max_context_tokens
        new_tokens = max(self.sample.max_new_tokens, self.evaluate.max_new_tokens)
        between = new_tokens + environment.max_observation_tokens
        return self.context.max_context_tokens + (environment.max_turns - 1) * between

    def _gate_with_its_default(self) -> GateParams:
        """With what gate.require_better_expert means where it is left out. In a frozen iteration
        that is false: those of before there was the setting are as they were."""
        chosen, is_pretrained = self.gate.require_better_expert, self.base.kind == "pretrained"
        if chosen is None and is_pretrained and self.train.objective.name not in _READ_NO_EXPERT:
            chosen = True
        elif chosen is False and not is_pretrained:
            chosen = None
        return self.gate.model_copy(update={"require_better_expert": chosen})

    def _require_problems_of_warm_start(self) -> None:
        if self.base.kind != "pretrained" or (warm_start := self.base.warm_start) is None:
            return
        if warm_start.file is None and not self.problems.num_warm_start:
            raise ValueError(
                "base.warm_start needs problems.num_warm_start > 0 to learn from, or rows of your "
                "own (base.warm_start.file)"
            )
        if (warm_start.num_corrections or 0) > self.problems.num_warm_start:
            raise ValueError(
                f"base.warm_start.num_corrections {warm_start.num_corrections} exceeds "
                f"problems.num_warm_start {self.problems.num_warm_start}, which they are made of: "
                "lower it, or leave it out"
            )

    def _require_known_margins(self) -> None:
        num_samples = self.evaluate.num_samples
        ks = {2**i for i in range(num_samples.bit_length())} | {num_samples}
        known = [f"pass_at_{k}" for k in sorted(ks)] + [f"majority_at_{num_samples}"]
        unknown = sorted(self.gate.margins.keys() - set(known))
        if unknown:
            raise ValueError(
                f"gate.margins names {', '.join(unknown)}, which an evaluation with "
                f"evaluate.num_samples {num_samples} does not have: expected some of "
                f"{', '.join(known)}, or pass_at_n and majority_at_n, which follow num_samples"
            )

    def _require_enough_positions(self, max_positions: int) -> None:
        new_tokens = max(self.sample.max_new_tokens, self.evaluate.max_new_tokens)
        needed = self.max_turn_context_tokens + new_tokens
        named = f"max_new_tokens {new_tokens}"
        if (environment := self.context.environment) is not None:
            named = (
                f"context.environment.max_turns {environment.max_turns} of {named} each, with "
                f"max_observation_tokens {environment.max_observation_tokens} between two,"
            )
        if max_positions < needed:
            raise ValueError(
                f"base.architecture.max_positions {max_positions} is less than {needed}, "
                f"context.max_context_tokens {self.context.max_context_tokens} and "
                f"{named} together: raise it, or lower them"
            )


SCHEMA_VERSION: Final = 1
"""The form of frozen settings; `distil_core.campaign.migrations` reads the earlier ones."""


class StageVersion(Settings):
    """What a stage was frozen with of its code."""

    version: PositiveInt
    """Of the stage's own code, raised when what it writes changes."""
    code: tuple[str, ...]
    """Of each component that it uses the digest of its built-in code, its kind and name
    (`67750298a272f602 objective forward_cross_entropy`)."""


class IterationParams(Params):
    """What one iteration was frozen with: all settings, its place in the chain, its code."""

    iteration: Annotated[int, Field(ge=0, le=999)]
    """Its number; 0 is the base policy."""
    stage_versions: dict[str, PositiveInt | StageVersion]
    """The code of each stage; its version alone where that was frozen before components' was."""
    schema_version: Literal[1] = SCHEMA_VERSION
    """The form of these settings. No stage depends on it."""
