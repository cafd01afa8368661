"""Settings of the stages but the first and training: what samples, tabulates and evaluates, where
it runs, and how verdicts and interrupted work are come by."""

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from distil_core.config._base import (
    Component,
    NonNegative,
    Positive,
    PositiveFraction,
    Settings,
)


class ComputeParams(Settings):
    """Where and how exactly models compute."""

    device: Literal["cpu", "cuda"]
    """Where models run."""
    dtype: Literal["float32", "bfloat16"]
    """Of weights and activations; on a CPU, bfloat16 needs one with instructions for it."""
    num_threads: PositiveInt
    """Of torch in each process; results depend on it."""


class SampleParams(Settings):
    """The rollouts of an iteration."""

    engine: Component
    """What samples."""
    num_prompts: PositiveInt
    """Problems of an iteration."""
    num_rollouts: PositiveInt
    """Rollouts of each problem, one group."""
    max_new_tokens: PositiveInt
    """The longest response, in tokens; a longer one is cut."""
    temperature: Positive
    """Logits are divided by it."""
    top_p: PositiveFraction
    """Share of the probability mass that tokens are sampled from."""
    earlier_num_prompts: tuple[PositiveInt, ...] | None = None
    """num_prompts of each iteration before this one. `distil extend` freezes it where it was not
    always the same, so that problems do not repeat; it is no setting of params.yaml."""

    @model_serializer(mode="wrap")
    def _without_what_is_not_set(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Iterations that need no such list are frozen as they always were."""
        values: dict[str, Any] = serialise(self)
        if self.earlier_num_prompts is None:
            values.pop("earlier_num_prompts", None)
        return values


class VerificationParams(Settings):
    """How verdicts are come by, never which they are: no stage in dvc.yaml depends on it."""

    num_workers: PositiveInt = 1
    """Processes that verify. With 1, a verifier that can neither hang nor crash runs in the stage's
    own process; so does any other where consult.verify_timeout_s is null."""


class ResumeParams(Settings):
    """How much work an interruption may cost, never what comes of it: no stage in dvc.yaml depends
    on it."""

    checkpoint_every_s: NonNegative = 60.0
    """Seconds between two states that interrupted training goes on from; 0 keeps one after each
    step."""


class TabulateParams(Settings):
    """The expert's distributions at the student's states (docs/method.md#stored-distribution)."""

    expert: Component
    """Gives the distributions."""
    top_k: PositiveInt
    """Ids stored at one state, at most; the rest of the mass is the tail."""
    top_p: PositiveFraction
    """Mass of which the fewest ids that hold it are stored."""
    rows_per_shard: PositiveInt
    """Rows of one Parquet file."""
    storage: Literal["exact", "compact"] = "exact"
    """'exact' keeps the expert's log-probabilities as they are, 'compact' rounds them by at most
    0.0005 of a position's mass and packs them closer (docs/benchmarks.md measures both)."""


class EvaluateParams(Settings):
    """Scores on held-out problems, without feedback."""

    num_samples: PositiveInt
    """Responses to each held-out problem; pass@k is reported for k = 1, 2, 4 .. num_samples."""
    num_expert_samples: Annotated[int, Field(ge=0)]
    """Responses of the expert to each held-out problem, one with the feedback on each of the
    student's first samples; 0 leaves the expert out."""
    max_new_tokens: PositiveInt
    """The longest response, in tokens; a longer one is cut."""
    temperature: Positive
    """Logits are divided by it."""
    top_p: PositiveFraction
    """Share of the probability mass that tokens are sampled from."""
    num_bootstrap: Annotated[int, Field(ge=100)]
    """Resamples of the problems that intervals are made from."""

    @model_validator(mode="after")
    def _enough_attempts(self) -> "EvaluateParams":
        if self.num_expert_samples > self.num_samples:
            raise ValueError(
                f"num_expert_samples {self.num_expert_samples} exceeds num_samples "
                f"{self.num_samples}: the expert reads the feedback on the student's own samples"
            )
        return self
