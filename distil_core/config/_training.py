"""Settings of training."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from distil_core.config._base import Component, Fraction, NonNegative, Positive, Settings

Layout = Literal["padded", "packed", "prefix_tree"]
"""How rows lie in a model's input; see `TrainParams`."""

TILED_HEAD_ABOVE = 16384
"""Vocabularies above this are read in tiles unless settings say otherwise."""

OnePassLayout = Literal["padded", "prefix_tree"]
"""Those that take a batch in one forward pass."""


class LoraParams(Settings):
    """Low-rank adapters: a target's weight W becomes W + alpha / rank * B A, and only A and B are
    trained; weight decay pulls them to zero, so the policy to its parent.

    target_modules: names of linear layers, or the ends of names, as q_proj. dropout: of what A
    reads.
    """

    rank: PositiveInt
    alpha: PositiveFloat
    target_modules: Annotated[tuple[str, ...], Field(min_length=1)]
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0


class TrainParams(Settings):
    """num_steps optimizer steps of batch_rollouts rollouts; whole groups stay together.

    num_tables: feedback tables that are trained on, this iteration's and those before it, or all
    so far (DAgger's aggregation). The importance weight corrects for the older samplers.
    average_decay: of the moving average of the weights that is kept with the policy for the
    expert's `weights: ema`, per optimizer step; null keeps none.
    truncated_responses: those that hit sample.max_new_tokens. 'train' learns from what was seen of
    them; the disagreement after the cut is missing from their credit, so that rambling on looks
    cheap where many are cut. 'mask' trains none of their tokens; their rewards still count in
    their group's mean.
    micro_batch_rollouts: rollouts whose activations are held at once; null for the whole batch.
    The gradient is the whole batch's in either case, for a second forward pass.
    activation_checkpointing: activations are computed again in the backward pass, not held.
    tiled_head_above_vocabulary: for a larger vocabulary the head's log-probabilities are computed
    in tiles, so that [tokens, vocabulary] never exists; null never does.
    lora: adapters that are trained in place of the weights; null trains the weights. The policy
    is saved with them merged, and the next iteration starts fresh ones.
    layout: how rows lie in the model's input. 'padded': one in a sequence. 'packed': one after
    another in few sequences, without padding. 'prefix_tree': what rows begin with alike, such as
    the context of a group, is computed once.
    """

    objective: Component
    num_steps: PositiveInt
    batch_rollouts: PositiveInt
    learning_rate: Positive
    final_learning_rate_fraction: Fraction
    warmup_steps: Annotated[int, Field(ge=0)]
    weight_decay: NonNegative
    max_grad_norm: PositiveFloat
    num_tables: PositiveInt | Literal["all"] = 1
    average_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    truncated_responses: Literal["train", "mask"] = "train"
    micro_batch_rollouts: PositiveInt | None = None
    activation_checkpointing: bool = False
    tiled_head_above_vocabulary: PositiveInt | None = TILED_HEAD_ABOVE
    lora: LoraParams | None = None
    layout: Layout = "padded"

    @model_validator(mode="after")
    def _exact_average(self) -> "TrainParams":
        if self.lora is not None and self.average_decay is not None:
            raise ValueError(
                "average_decay averages weights, and with lora they are made only at the end (the "
                "average of products B A is not the product of averages): leave one of them out"
            )
        return self
