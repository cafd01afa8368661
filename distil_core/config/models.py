"""The typed settings of a campaign. Frozen; an unknown key or an impossible combination is refused.

The defaults live in `params.yaml`, where each has its reason beside it: a setting missing from
the file is an error, so that what ran is always what can be read.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from distil_core.config._base import (
    Component,
    Fraction,
    NonNegative,
    Positive,
    PositiveFraction,
    Settings,
)
from distil_core.config._feedback import (
    ConsultParams,
    ContextParams,
    SelfEvaluationParams,
    ShorteningRule,
)
from distil_core.config._gate import AlarmParams, GateParams
from distil_core.config._training import (
    TILED_HEAD_ABOVE,
    Layout,
    LoraParams,
    OnePassLayout,
    TrainParams,
)

__all__ = [
    "READ_BY_NO_STAGE",
    "TILED_HEAD_ABOVE",
    "AlarmParams",
    "ArchitectureParams",
    "BaseParams",
    "Component",
    "ComputeParams",
    "ConsultParams",
    "ContextParams",
    "EvaluateParams",
    "Fraction",
    "FromScratchBase",
    "GateParams",
    "GeneralisationParams",
    "IterationParams",
    "Layout",
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
    "TabulateParams",
    "TrainParams",
    "VerificationParams",
    "WarmStartPhase",
]


class ComputeParams(Settings):
    """device: where models run. num_threads: of torch in each process; results depend on it."""

    device: Literal["cpu", "cuda"]
    dtype: Literal["float32", "bfloat16"]
    num_threads: PositiveInt


class GeneralisationParams(Settings):
    """Held-out problems longer or harder than those trained on: the `eval` split of the same
    source with `options` in place of its own of the same names."""

    num_problems: PositiveInt
    options: dict[str, Any] = Field(min_length=1)


class ProblemParams(Settings):
    """num_warm_start, num_train, num_eval: sizes of the three sets, disjoint by problem.
    generalisation: a fourth one to evaluate on, or null."""

    source: Component
    num_warm_start: Annotated[int, Field(ge=0)]
    num_train: PositiveInt
    num_eval: PositiveInt
    generalisation: GeneralisationParams | None = None

    @property
    def generalisation_source(self) -> Component | None:
        """The source of the generalisation problems."""
        if self.generalisation is None:
            return None
        options = self.source.options | self.generalisation.options
        return Component(name=self.source.name, options=options)


class ArchitectureParams(Settings):
    """A small Llama-shaped causal language model with tied embeddings."""

    hidden_size: PositiveInt
    num_layers: PositiveInt
    num_heads: PositiveInt
    intermediate_size: PositiveInt
    max_positions: PositiveInt

    @model_validator(mode="after")
    def _heads_divide_hidden(self) -> "ArchitectureParams":
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError(
                f"hidden_size {self.hidden_size} must be an even multiple of "
                f"num_heads {self.num_heads} (rotary positions need an even head size)"
            )
        return self


class WarmStartPhase(Settings):
    """One stretch of warm-start steps. correction_fraction: share of each batch that is
    feedback-conditioned corrections; the rest is demonstrations."""

    num_steps: PositiveInt
    correction_fraction: Fraction


class FromScratchBase(Settings):
    """A base policy made here: an architecture, warm-started on supervised text.

    num_corrections: of the warm start's problems, how many also become corrections; null for all.
    A correction costs a verification, which counts where that runs a program. layout: as in
    `train.layout`; corrections have longer contexts than demonstrations, so that a padded batch is
    mostly padding.
    """

    kind: Literal["from_scratch"]
    architecture: ArchitectureParams
    phases: tuple[WarmStartPhase, ...] = Field(min_length=1)
    batch_size: PositiveInt
    learning_rate: Positive
    final_learning_rate_fraction: Fraction
    warmup_steps: Annotated[int, Field(ge=0)]
    weight_decay: NonNegative
    max_grad_norm: PositiveFloat
    num_corrections: PositiveInt | None = None
    layout: OnePassLayout = "padded"


class PretrainedBase(Settings):
    """A Hugging Face checkpoint: a local folder, or a hub id pinned to a revision. A LoRA adapter's
    folder counts as the model it was trained on with the adapter merged into it."""

    kind: Literal["pretrained"]
    path_or_id: str
    revision: str | None = None
    allow_download: bool = False

    @model_validator(mode="after")
    def _pinned(self) -> "PretrainedBase":
        if self.allow_download and not self.revision:
            raise ValueError(
                "allow_download needs a revision (a commit of the hub's repository): without one "
                "the same settings would mean another policy tomorrow"
            )
        return self


BaseParams = Annotated[FromScratchBase | PretrainedBase, Field(discriminator="kind")]


class SampleParams(Settings):
    """num_prompts: problems of an iteration. num_rollouts: of each problem, one group.

    earlier_num_prompts: of each iteration before this one. `distil extend` freezes it where it was
    not always the same, so that problems do not repeat; it is no setting of params.yaml.
    """

    engine: Component
    num_prompts: PositiveInt
    num_rollouts: PositiveInt
    max_new_tokens: PositiveInt
    temperature: Positive
    top_p: PositiveFraction
    earlier_num_prompts: tuple[PositiveInt, ...] | None = None

    @model_serializer(mode="wrap")
    def _without_what_is_not_set(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Iterations that need no such list are frozen as they always were."""
        values: dict[str, Any] = serialise(self)
        if self.earlier_num_prompts is None:
            values.pop("earlier_num_prompts", None)
        return values


class VerificationParams(Settings):
    """How verdicts are come by, never which they are: no stage in dvc.yaml depends on it.

    num_workers: processes that verify. With 1, a verifier that can neither hang nor crash runs in
    the stage's own process; so does any other where consult.verify_timeout_s is null.
    """

    num_workers: PositiveInt = 1


class ResumeParams(Settings):
    """How much work an interruption may cost, never what comes of it: no stage in dvc.yaml depends
    on it.

    checkpoint_every_s: seconds between two states that interrupted training goes on from; 0 keeps
    one after each step.
    """

    checkpoint_every_s: NonNegative = 60.0


class TabulateParams(Settings):
    """expert: gives distributions at the student's states, stored as the fewest ids that hold
    `top_p` of the mass, at most `top_k`, and the tail (METHOD section 4).

    storage: 'exact' keeps the expert's log-probabilities as they are, 'compact' rounds them by at
    most 0.0005 of a position's mass and packs them closer (docs/benchmarks.md measures both).
    """

    expert: Component
    top_k: PositiveInt
    top_p: PositiveFraction
    rows_per_shard: PositiveInt
    storage: Literal["exact", "compact"] = "exact"


class EvaluateParams(Settings):
    """num_samples per held-out problem; pass@k is reported for k = 1, 2, 4 .. num_samples.

    num_expert_samples: responses of the expert for each held-out problem, one with the feedback on
    each of the student's first samples; 0 leaves the expert out.
    """

    num_samples: PositiveInt
    num_expert_samples: Annotated[int, Field(ge=0)]
    max_new_tokens: PositiveInt
    temperature: Positive
    top_p: PositiveFraction
    num_bootstrap: Annotated[int, Field(ge=100)]

    @model_validator(mode="after")
    def _enough_attempts(self) -> "EvaluateParams":
        if self.num_expert_samples > self.num_samples:
            raise ValueError(
                f"num_expert_samples {self.num_expert_samples} exceeds num_samples "
                f"{self.num_samples}: the expert reads the feedback on the student's own samples"
            )
        return self


_LLAMA_LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def _require_llama_layers(targets: tuple[str, ...]) -> None:
    for target in targets:
        if target.rpartition(".")[2] not in _LLAMA_LAYERS:
            raise ValueError(
                f"train.lora.target_modules: {target!r} is no linear layer that a policy made here "
                f"can adapt: choose among {', '.join(_LLAMA_LAYERS)}"
            )


READ_BY_NO_STAGE = frozenset({"num_iterations", "verification", "resume"})
"""Sections of `Params` that no stage in dvc.yaml depends on: they change no iteration."""


class Params(Settings):
    """All of `params.yaml`."""

    campaign: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    num_iterations: PositiveInt
    compute: ComputeParams
    problems: ProblemParams
    base: BaseParams
    context: ContextParams
    sample: SampleParams
    consult: ConsultParams
    verification: VerificationParams = VerificationParams()
    resume: ResumeParams = ResumeParams()
    tabulate: TabulateParams
    train: TrainParams
    evaluate: EvaluateParams
    gate: GateParams

    @model_validator(mode="after")
    def _possible(self) -> "Params":
        self._require_known_margins()
        if self.sample.num_prompts > self.problems.num_train:
            raise ValueError(
                f"sample.num_prompts {self.sample.num_prompts} exceeds "
                f"problems.num_train {self.problems.num_train}: lower it, or make more problems"
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
        if self.base.kind == "from_scratch" and self.train.lora is not None:
            _require_llama_layers(self.train.lora.target_modules)
        if self.base.kind == "from_scratch" and self.context.chat:
            raise ValueError(
                "context.chat needs a base with a chat template: a policy made here has none, "
                "write the turns into the templates, or use base.kind pretrained"
            )
        if self.base.kind == "from_scratch":
            self._require_enough_positions(self.base.architecture.max_positions)
        if self.compute.device == "cpu" and self.compute.dtype == "bfloat16":
            raise ValueError("compute.dtype bfloat16 needs compute.device cuda: use float32 on cpu")
        return self

    def _require_known_margins(self) -> None:
        num_samples = self.evaluate.num_samples
        ks = {2**i for i in range(num_samples.bit_length())} | {num_samples}
        known = [f"pass_at_{k}" for k in sorted(ks)] + [f"majority_at_{num_samples}"]
        unknown = sorted(self.gate.margins.keys() - set(known))
        if unknown:
            raise ValueError(
                f"gate.margins names {', '.join(unknown)}, which an evaluation with "
                f"evaluate.num_samples {num_samples} does not have: expected some of "
                f"{', '.join(known)}"
            )

    def _require_enough_positions(self, max_positions: int) -> None:
        new_tokens = max(self.sample.max_new_tokens, self.evaluate.max_new_tokens)
        needed = self.context.max_context_tokens + new_tokens
        if max_positions < needed:
            raise ValueError(
                f"base.architecture.max_positions {max_positions} is less than {needed}, "
                f"context.max_context_tokens {self.context.max_context_tokens} and "
                f"max_new_tokens {new_tokens} together: raise it, or lower them"
            )


class IterationParams(Params):
    """What one iteration was frozen with: all settings, its place in the chain, and the version
    of each stage's behaviour (raised when a stage's code changes what it writes)."""

    iteration: Annotated[int, Field(ge=0, le=999)]
    stage_versions: dict[str, PositiveInt]
