"""Settings of training."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from distil_core.config._base import (
    Component,
    Finite,
    Fraction,
    NonNegative,
    Positive,
    PositiveFraction,
    Settings,
    added,
)

Layout = Literal["padded", "packed", "prefix_tree"]
"""How rows lie in a model's input; see `TrainParams`."""

TILED_HEAD_ABOVE = 16384
"""Vocabularies above this are read in tiles unless settings say otherwise."""

OnePassLayout = Literal["padded", "prefix_tree"]
"""Those that take a batch in one forward pass."""


class LinearSchedule(Settings):
    """A number that changes from one iteration to the next. Each iteration is frozen with its
    own."""

    start: Finite
    """In iteration 1."""
    end: Finite
    """Linearly reached in iteration 1 + over_iterations, and kept from there on."""
    over_iterations: PositiveInt
    """Steps from start to end."""

    def at(self, iteration: int) -> float:
        """The number of an iteration; iteration 0, which trains nothing, has that of the first."""
        share = min(max(iteration - 1, 0), self.over_iterations) / self.over_iterations
        return (1 - share) * self.start + share * self.end


class LoraParams(Settings):
    """Low-rank adapters: a target's weight W becomes W + alpha / rank * B A, and only A and B are
    trained; weight decay pulls them to zero, so the policy to its parent."""

    rank: PositiveInt
    """Columns of B and rows of A."""
    alpha: PositiveFloat
    """Scale of the change: it counts alpha / rank times."""
    target_modules: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names of linear layers, or the ends of names, as q_proj."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Of what A reads."""


class DecisionParams(Settings):
    """At which of the policy's tokens the expert is listened to. At the others it counts as silent:
    they are not matched, cost nothing in what came before, and stay in what the loss is divided
    by. Objectives of the reward are not concerned."""

    select: Literal["disagreement", "entropy", "marked", "random"]
    """Which of each rollout's tokens are kept, of those at which the expert says something.
    'disagreement': where KL(expert || student) is largest. 'entropy': where the student is least
    sure, among the expert's stored tokens and the rest. 'marked': of the turns that the environment
    marks. 'random': any, drawn for each rollout once: the control for the others at the same
    share."""
    share: PositiveFraction | None = None
    """Of each rollout's tokens that are kept, rounded up; with 'marked' left out, as all of the
    turns marked are kept. The share that was is `decision_fraction` of the training curve."""

    @model_validator(mode="after")
    def _share_where_used(self) -> "DecisionParams":
        if (self.select == "marked") != (self.share is None):
            raise ValueError("share is given exactly when select is not 'marked'")
        return self


class TrainParams(Settings):
    """How a policy is trained on feedback tables."""

    objective: Component
    """What is minimised."""
    num_steps: PositiveInt
    """Optimizer steps."""
    batch_rollouts: PositiveInt
    """Rollouts of one step; whole groups stay together."""
    learning_rate: Positive
    """The largest one of the schedule."""
    final_learning_rate_fraction: Fraction
    """Share of it that is left at the last step, linearly reached."""
    warmup_steps: Annotated[int, Field(ge=0)]
    """First steps, in which the rate rises linearly from zero; at most num_steps."""
    weight_decay: NonNegative
    """AdamW's, on matrices only."""
    max_grad_norm: PositiveFloat
    """Gradients of a larger norm are scaled down to it; .inf for none."""
    num_tables: PositiveInt | Literal["all"] = 1
    """Feedback tables that are trained on: this iteration's and those before it, or 'all' so far
    (DAgger's aggregation). The importance weight corrects for the older samplers."""
    average_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Of the moving average of the weights that is kept with the policy for the expert's `weights:
    ema`, per optimizer step; null keeps none."""
    truncated_responses: Literal["train", "mask"] = "train"
    """What becomes of responses that hit sample.max_new_tokens. 'train' learns from what was seen
    of them; the disagreement after the cut is missing from their credit, so that rambling on looks
    cheap where many are cut. 'mask' trains none of their tokens; their rewards still count in their
    group's mean."""
    micro_batch_rollouts: PositiveInt | None = None
    """Rollouts whose activations are held at once; null for the whole batch. The gradient is the
    whole batch's in either case, for a second forward pass."""
    activation_checkpointing: bool = False
    """Whether activations are computed again in the backward pass and not held."""
    tiled_head_above_vocabulary: PositiveInt | None = TILED_HEAD_ABOVE
    """For a larger vocabulary the head's log-probabilities are computed in tiles, so that [tokens,
    vocabulary] never exists; null never does."""
    lora: LoraParams | None = None
    """Adapters that are trained in place of the weights; null trains the weights. The policy is
    saved with them merged, and the next iteration starts fresh ones."""
    layout: Layout = "padded"
    """How rows lie in the model's input. 'padded': one in a sequence. 'packed': one after another
    in few sequences, without padding. 'prefix_tree': what rows begin with alike, such as the
    context of a group, is computed once."""

    problem_weights: Literal["equal", "success_deviation"] = added("equal")
    """How much each prompt's rollouts count. 'success_deviation': as sqrt(p (1 - p)), p the mean
    reward of its rollouts, over the mean of all prompts that are trained on, so that prompts which
    are solved now and then count most, and those always or never solved not at all."""
    dropped_groups: Literal["none", "all_correct", "equal_rewards", "no_signal"] = added("none")
    """Prompts whose rollouts are not trained on: those of which all rollouts have reward 1
    ('all_correct'), the same reward ('equal_rewards'), or the same reward and no expert
    ('no_signal'). Their share is `dropped_group_fraction` of the training curve. An expert that
    reads feedback teaches most where all rollouts are wrong, so 'equal_rewards' is for objectives
    of the reward."""
    position_half_life_tokens: Positive | None = added(None)
    """Tokens of a response over which a token's loss comes to count half, so that early decisions
    count more; null counts all alike."""
    expert_disagreement: Literal["unmeasured", "reported", "only"] = added("unmeasured")
    """Positions where the expert's likeliest stored token is not the student's likeliest one of
    these, or where only the student gives more to all that is not stored. 'reported': their share
    is `disagreeing_fraction` of the training curve. 'only': no others are trained, though these
    stay in the credit of what came before and count in what the loss is divided by."""
    decisions: DecisionParams | None = added(None)
    """At which tokens the expert is listened to; null for all at which it says something."""
    optimizer_state_bits: Literal[8, 32] = added(32)
    """Of each number in AdamW's two moments. 8 keeps them quantised in blocks, by the library
    bitsandbytes (the extra 'eight-bit'): a quarter of the memory, and other bits than with 32."""

    @model_validator(mode="after")
    def _exact_average(self) -> "TrainParams":
        if self.lora is not None and self.average_decay is not None:
            raise ValueError(
                "average_decay averages weights, and with lora they are made only at the end (the "
                "average of products B A is not the product of averages): leave one of them out"
            )
        return self
