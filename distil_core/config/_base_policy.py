"""Settings of the base policy: made here, or a checkpoint from outside."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from distil_core.config._base import Fraction, NonNegative, Positive, Settings, added
from distil_core.config._training import OnePassLayout
from distil_core.config._warm_start import WarmStartParams, WarmStartPhase


class ArchitectureParams(Settings):
    """A small Llama-shaped causal language model with tied embeddings."""

    hidden_size: PositiveInt
    """Width of the residual stream, an even multiple of num_heads."""
    num_layers: PositiveInt
    """Transformer blocks."""
    num_heads: PositiveInt
    """Attention heads of a block."""
    intermediate_size: PositiveInt
    """Width of a block's feed-forward part."""
    max_positions: PositiveInt
    """Longest context and response together, in tokens."""

    @model_validator(mode="after")
    def _heads_divide_hidden(self) -> "ArchitectureParams":
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError(
                f"hidden_size {self.hidden_size} must be an even multiple of "
                f"num_heads {self.num_heads} (rotary positions need an even head size)"
            )
        return self


class FromScratchBase(Settings):
    """A base policy made here: an architecture, warm-started on supervised text."""

    kind: Literal["from_scratch"]
    """A policy made here."""
    architecture: ArchitectureParams
    """The model's sizes."""
    phases: tuple[WarmStartPhase, ...] = Field(min_length=1)
    """Stretches of warm-start steps, one after another."""
    batch_size: PositiveInt
    """Texts of one step."""
    learning_rate: Positive
    """The largest one of the schedule, which goes over all phases."""
    final_learning_rate_fraction: Fraction
    """Share of it that is left at the last step, linearly reached."""
    warmup_steps: Annotated[int, Field(ge=0)]
    """First steps, in which the rate rises linearly from zero; at most the steps of all phases."""
    weight_decay: NonNegative
    """AdamW's, on matrices only."""
    max_grad_norm: PositiveFloat
    """Gradients of a larger norm are scaled down to it; .inf for none."""
    num_corrections: PositiveInt | None = None
    """Of the warm start's problems, how many also become corrections; null for all. A correction
    costs a verification, which counts where that runs a program."""
    layout: OnePassLayout = "padded"
    """As in `train.layout`; corrections have longer contexts than demonstrations, so that a padded
    batch is mostly padding."""


class PretrainedBase(Settings):
    """A Hugging Face checkpoint. A LoRA adapter's folder counts as the model it was trained on with
    the adapter merged into it."""

    kind: Literal["pretrained"]
    """A checkpoint from elsewhere."""
    path_or_id: str
    """A local folder, a local GGUF file (`*.gguf`), or an id of the hub."""
    sha256: str | None = added(None)
    """Digest of the GGUF file, which pins it; `distil pin` writes it. null for anything else."""
    revision: str | None = None
    """A commit of the hub's repository, which pins the content."""
    allow_download: bool = False
    """Whether the hub is asked for what is not in the local cache; needs a revision."""
    warm_start: WarmStartParams | None = added(None)
    """Supervised steps before the first iteration; null for none."""

    @property
    def is_gguf(self) -> bool:
        """Whether path_or_id names a GGUF file."""
        return self.path_or_id.lower().endswith(".gguf")

    @model_validator(mode="after")
    def _pinned(self) -> "PretrainedBase":
        if self.is_gguf and (self.allow_download or self.revision):
            raise ValueError(
                f"path_or_id {self.path_or_id} names a file, which is never downloaded: leave out "
                "revision and allow_download; base.sha256 pins the file"
            )
        if self.sha256 is not None and not self.is_gguf:
            raise ValueError(
                f"sha256 pins a GGUF file, and path_or_id {self.path_or_id} is none: leave it out"
            )
        if self.allow_download and not self.revision:
            raise ValueError(
                "allow_download needs a revision (a commit of the hub's repository): without one "
                "the same settings would mean another policy tomorrow"
            )
        return self


BaseParams = Annotated[FromScratchBase | PretrainedBase, Field(discriminator="kind")]
