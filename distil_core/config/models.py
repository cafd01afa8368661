"""The typed settings of a campaign. Frozen; an unknown key or an impossible combination is refused.

The defaults live in `params.yaml`, where each has its reason beside it: a setting missing from
the file is an error, so that what ran is always what can be read.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveFraction = Annotated[float, Field(gt=0, le=1)]


class Settings(BaseModel):
    """Base of all settings: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Component(Settings):
    """A part chosen by name, with the part's own options (checked by its module at load)."""

    name: str
    options: dict[str, Any] = {}


class ComputeParams(Settings):
    """device: where models run. num_threads: of torch in each process; results depend on it."""

    device: Literal["cpu", "cuda"]
    dtype: Literal["float32", "bfloat16"]
    num_threads: PositiveInt


class ProblemParams(Settings):
    """num_warm_start, num_train, num_eval: sizes of the three sets, disjoint by problem."""

    source: Component
    num_warm_start: Annotated[int, Field(ge=0)]
    num_train: PositiveInt
    num_eval: PositiveInt


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
    """A base policy made here: an architecture, warm-started on supervised text."""

    kind: Literal["from_scratch"]
    architecture: ArchitectureParams
    phases: tuple[WarmStartPhase, ...] = Field(min_length=1)
    batch_size: PositiveInt
    learning_rate: PositiveFloat
    final_learning_rate_fraction: Fraction
    warmup_steps: Annotated[int, Field(ge=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    max_grad_norm: PositiveFloat


class PretrainedBase(Settings):
    """A Hugging Face checkpoint: a local folder, or a hub id pinned to a revision."""

    kind: Literal["pretrained"]
    path_or_id: str
    revision: str | None = None
    allow_download: bool = False


BaseParams = Annotated[FromScratchBase | PretrainedBase, Field(discriminator="kind")]


class ContextParams(Settings):
    """How a problem and its feedback become text. Fields in braces: see distil_core/feedback."""

    student_template: str
    expert_template: str
    max_context_tokens: PositiveInt


class SampleParams(Settings):
    """num_prompts: problems of an iteration. num_rollouts: of each problem, one group."""

    engine: Component
    num_prompts: PositiveInt
    num_rollouts: PositiveInt
    max_new_tokens: PositiveInt
    temperature: PositiveFloat
    top_p: PositiveFraction


class ConsultParams(Settings):
    """verifier: gives reward and feedback. reveal: whether feedback may hold hidden answers."""

    verifier: Component
    reveal: Literal["nothing", "expected_outputs"]


class TabulateParams(Settings):
    """expert: gives distributions at the student's states, stored as the fewest ids that hold
    `top_p` of the mass, at most `top_k`, and the tail (METHOD section 4)."""

    expert: Component
    top_k: PositiveInt
    top_p: PositiveFraction
    rows_per_shard: PositiveInt


class TrainParams(Settings):
    """num_steps optimizer steps of batch_rollouts rollouts; whole groups stay together."""

    objective: Component
    num_steps: PositiveInt
    batch_rollouts: PositiveInt
    learning_rate: PositiveFloat
    final_learning_rate_fraction: Fraction
    warmup_steps: Annotated[int, Field(ge=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    max_grad_norm: PositiveFloat


class EvaluateParams(Settings):
    """num_samples per held-out problem; pass@k is reported for k = 1, 2, 4 .. num_samples."""

    num_samples: PositiveInt
    max_new_tokens: PositiveInt
    temperature: PositiveFloat
    top_p: PositiveFraction
    num_bootstrap: Annotated[int, Field(ge=100)]


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
    tabulate: TabulateParams
    train: TrainParams
    evaluate: EvaluateParams

    @model_validator(mode="after")
    def _possible(self) -> "Params":
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
        if self.base.kind == "from_scratch" and not self.problems.num_warm_start:
            raise ValueError(
                "base.kind from_scratch needs problems.num_warm_start > 0 to learn from"
            )
        if self.compute.device == "cpu" and self.compute.dtype == "bfloat16":
            raise ValueError("compute.dtype bfloat16 needs compute.device cuda: use float32 on cpu")
        return self


class IterationParams(Params):
    """What one iteration was frozen with: all settings, its place in the chain, and the version
    of each stage's behaviour (raised when a stage's code changes what it writes)."""

    iteration: Annotated[int, Field(ge=0, le=999)]
    stage_versions: dict[str, PositiveInt]
