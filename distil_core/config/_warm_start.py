"""Settings of a warm start: supervised steps before there are any rollouts."""

from string import Formatter
from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from distil_core.config._base import Fraction, NonNegative, Positive, PositiveFraction, Settings
from distil_core.config._training import TILED_HEAD_ABOVE, LoraParams, OnePassLayout

DEMONSTRATION_FIELDS = frozenset({"prompt", "reference"})
"""Of `base.warm_start.demonstration_template`."""


class WarmStartPhase(Settings):
    """One stretch of warm-start steps."""

    num_steps: PositiveInt
    """Optimizer steps."""
    correction_fraction: Fraction
    """Share of each batch that is feedback-conditioned corrections; the rest is demonstrations."""


class SupervisedFile(Settings):
    """A file of supervised rows in JSON Lines, whose content is pinned."""

    path: str
    """From the workspace's root, or absolute."""
    sha256: str = Field(pattern=r"^([0-9a-f]{64})?$")
    """Of the file's bytes; empty, and the stage stops and says what it is. `distil pin` writes
    it."""


class AttemptParams(Settings):
    """The base's own attempts at the warm start's problems, which corrections are made of."""

    max_new_tokens: PositiveInt
    """The longest attempt, in tokens; a longer one is cut."""
    temperature: Positive = 1.0
    """Logits are divided by it."""
    top_p: PositiveFraction = 1.0
    """Share of the probability mass that tokens are sampled from."""
    batch_size: PositiveInt = 16
    """Attempts in one forward pass."""


class WarmStartParams(Settings):
    """Supervised steps on a checkpoint, before the first iteration: demonstrations in the student's
    context, and corrections in the expert's, which teach to read feedback. They are made of the
    campaign's warm-start problems (problems.num_warm_start), or come from a file of one's own."""

    file: SupervisedFile | None = None
    """Rows of one's own in place of the problems."""
    prompt_field: str = "prompt"
    """Of a row: what {prompt} stands for in both templates of `context`."""
    response_field: str = "response"
    """Of a row: what is to be answered."""
    feedback_field: str = "feedback"
    """Of a row that is a correction: an object with the fields of context.expert_template, such as
    {"attempt": "..", "verdict": "wrong", "tool_output": ".."}. A row without it, or with null, is a
    demonstration."""
    demonstration_template: str = "{reference}"
    """The right answer to a problem, with the fields {reference} and {prompt}. Those that
    consult.verifier does not find correct are left out and counted. Demonstrations of a source that
    makes its own are those."""
    attempts: AttemptParams | None = None
    """Sampled from the base, for corrections. Null makes them up: as the problem source does, or
    else with the reference of another problem."""
    num_corrections: PositiveInt | None = None
    """Of the warm start's problems, how many also become corrections; null for all. A correction
    costs a verification."""
    phases: tuple[WarmStartPhase, ...] = Field(min_length=1)
    """Stretches of warm-start steps, one after another."""
    batch_size: PositiveInt = 16
    """Texts of one step."""
    learning_rate: Positive
    """The largest one of the schedule, which goes over all phases."""
    final_learning_rate_fraction: Fraction = 0.1
    """Share of it that is left at the last step, linearly reached."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """First steps, in which the rate rises linearly from zero; at most the steps of all phases."""
    weight_decay: NonNegative = 0.01
    """AdamW's, on matrices only."""
    max_grad_norm: PositiveFloat = 1.0
    """Gradients of a larger norm are scaled down to it; .inf for none."""
    max_response_tokens: PositiveInt = 1024
    """The longest response to learn from, in tokens; a longer one is an error."""
    layout: OnePassLayout = "padded"
    """As in `train.layout`."""
    micro_batch_size: PositiveInt | None = None
    """Texts whose activations are held at once; null for the whole batch. The gradient is the whole
    batch's in either case."""
    activation_checkpointing: bool = False
    """Whether activations are computed again in the backward pass and not held."""
    tiled_head_above_vocabulary: PositiveInt | None = TILED_HEAD_ABOVE
    """As in `train.tiled_head_above_vocabulary`."""
    lora: LoraParams | None = None
    """Adapters that are trained in place of the weights, and merged at the end; null trains the
    weights."""

    @property
    def num_steps(self) -> int:
        """Of all phases."""
        return sum(phase.num_steps for phase in self.phases)

    @property
    def has_corrections(self) -> bool:
        """Whether any phase asks for them."""
        return any(phase.correction_fraction for phase in self.phases)

    @property
    def has_demonstrations(self) -> bool:
        """Whether any phase asks for them."""
        return any(phase.correction_fraction < 1 for phase in self.phases)

    @model_validator(mode="after")
    def _one_source(self) -> "WarmStartParams":
        made = [name for name in ("attempts", "num_corrections") if getattr(self, name) is not None]
        if self.file is not None and made:
            raise ValueError(
                f"{' and '.join(made)} make corrections of problems, and file has rows of your own "
                "that are corrections or not: leave one of them out"
            )
        if not self.has_corrections and made:
            raise ValueError(
                f"{' and '.join(made)} make corrections, and no phase has a correction_fraction "
                "above 0: leave out one, or raise the other"
            )
        return self

    @model_validator(mode="after")
    def _template_has_the_reference(self) -> "WarmStartParams":
        try:
            parts = list(Formatter().parse(self.demonstration_template))
        except ValueError as error:
            raise ValueError(
                f"demonstration_template: {error} (write a literal brace twice)"
            ) from error
        fields = {field for _, field, _, _ in parts if field is not None}
        formatted = any(spec or conversion for _, _, spec, conversion in parts)
        if formatted or "reference" not in fields or not fields <= DEMONSTRATION_FIELDS:
            raise ValueError(
                "demonstration_template: expected {reference} and at most {prompt} besides, found "
                f"{self.demonstration_template!r}"
            )
        return self
