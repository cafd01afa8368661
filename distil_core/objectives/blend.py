"""(1 - reward_weight) * distillation + reward_weight * grpo, over the same rows.

docs/method.md#other-objectives. Each part is normalised by the rows that it can use:
distillation by those with an expert, the reward part by all rows.
"""

from typing import Annotated, Any, Self

import torch
from pydantic import Field, model_validator

from distil_core.config.models import LinearSchedule
from distil_core.errors import ConfigError
from distil_core.objectives import OBJECTIVES
from distil_core.objectives.base import (
    Objective,
    ObjectiveBatch,
    ObjectiveOptions,
    ObjectiveOutput,
)

_REWARD_OBJECTIVE = "grpo"


class Options(ObjectiveOptions):
    """The parts, by name, each with its own options; a wrong one is a `ConfigError` at once."""

    distillation: str = "forward_cross_entropy"
    """Any objective but `grpo` and `blend`."""
    distillation_options: dict[str, Any] = Field(default_factory=dict)
    """The distillation's own options."""
    grpo_options: dict[str, Any] = Field(default_factory=dict)
    """Options of the `grpo` part, such as `credit: turn`."""
    reward_weight: Annotated[float, Field(ge=0, le=1)] | LinearSchedule
    """lambda in [0, 1], or how it changes over iterations: start, end, over_iterations. No default:
    it trades two units that no default knows, nats of disagreement against standard deviations of
    reward. At 0 or 1 the other part is not run."""

    @model_validator(mode="after")
    def _parts_are_valid(self) -> Self:
        if self.distillation in ("blend", _REWARD_OBJECTIVE):
            raise ValueError(f"distillation cannot be {self.distillation!r}")
        OBJECTIVES.options(self.distillation, self.distillation_options)
        OBJECTIVES.options(_REWARD_OBJECTIVE, self.grpo_options)
        if isinstance(self.reward_weight, LinearSchedule):
            ends = (self.reward_weight.start, self.reward_weight.end)
            if not all(0 <= weight <= 1 for weight in ends):
                raise ValueError(f"reward_weight is in [0, 1], found a schedule of {ends}")
        return self

    @property
    def components_used(self) -> tuple[tuple[str, str], ...]:
        """Its parts."""
        return (("objective", self.distillation), ("objective", _REWARD_OBJECTIVE))

    @property
    def compares_rollouts(self) -> bool:
        """Its GRPO part does, and the distillation may."""
        distillation = OBJECTIVES.options(self.distillation, self.distillation_options)
        return self._runs_grpo or distillation.compares_rollouts

    @property
    def reads_turn_rewards(self) -> bool:
        """Whether its GRPO part, or the distillation, needs rewards of single turns."""
        parts = [(self.distillation, self.distillation_options)]
        parts += [(_REWARD_OBJECTIVE, self.grpo_options)] if self._runs_grpo else []
        return any(
            getattr(OBJECTIVES.options(name, options), "reads_turn_rewards", False)
            for name, options in parts
        )

    @property
    def _runs_grpo(self) -> bool:
        weight = self.reward_weight
        largest = max(weight.start, weight.end) if isinstance(weight, LinearSchedule) else weight
        return largest > 0


class Blend:
    """Callable on an `ObjectiveBatch`; diagnostics carry their part's name as a prefix."""

    def __init__(self, parts: dict[str, tuple[float, Objective]]):
        """parts: name to (weight, objective); all weights positive."""
        self.parts = parts

    def __call__(self, batch: ObjectiveBatch) -> ObjectiveOutput:
        loss = batch.sampled_logprobs_bt.new_zeros((), dtype=torch.float32)
        token_losses_bt = torch.zeros_like(batch.sampled_logprobs_bt, dtype=torch.float32)
        diagnostics = {}
        for name, (weight, objective) in self.parts.items():
            output = objective(batch)
            loss = loss + weight * output.loss
            token_losses_bt = token_losses_bt + weight * output.per_token_loss_bt
            diagnostics[f"{name}_loss"] = output.loss.item()
            diagnostics |= {f"{name}_{key}": value for key, value in output.diagnostics.items()}
        return ObjectiveOutput(loss, token_losses_bt, diagnostics)


def build(options: Options) -> Objective:
    """The objective, by name from the registry. Raises `ConfigError` for a schedule, in whose place
    an iteration is frozen with its own number."""
    weight = options.reward_weight
    if isinstance(weight, LinearSchedule):
        raise ConfigError(
            "objective 'blend': reward_weight is a schedule, and only an iteration has a number of "
            "it: `distil restart` and `distil extend` freeze each with its own"
        )
    weighted = (
        (1.0 - weight, options.distillation, options.distillation_options),
        (weight, _REWARD_OBJECTIVE, options.grpo_options),
    )
    return Blend(
        {
            name: (weight, OBJECTIVES.build(name, part_options))
            for weight, name, part_options in weighted
            if weight > 0
        }
    )
