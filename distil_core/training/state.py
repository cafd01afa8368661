"""What training reads and changes at each step, and what an interrupted run continues from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from distil_core.config.models import TrainParams
from distil_core.training.weight_average import WeightAverage

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class TrainingSetup:
    """What is constant over a run.

    seed: every random number depends only on it and the step. forward_dtype: in which the model
    computes; its weights should be float32 in either case. end_token_ids: a response that does not
    end in one of them is truncated; needed to mask those. temperature: of the sampler, where the
    objective reads the student at it and it is not 1.
    """

    params: TrainParams
    seed: int
    forward_dtype: Literal["float32", "bfloat16"] = "float32"
    end_token_ids: Collection[int] = ()
    temperature: float | None = None


@dataclass
class TrainingState:
    """What a step changes. num_done: steps done so far. curve: a row for each step, where the run
    has a curve. average: updated with the weights after each step; None where there is none."""

    model: PreTrainedModel
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None = None
    num_done: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)

    def finish_step(self, row: Mapping[str, float] | None = None) -> None:
        """Do the optimizer's step. row: for the curve."""
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.model)
        self.num_done += 1
        if row is not None:
            self.curve.append(dict(row))

    def live_tensors(self) -> dict[str, torch.Tensor]:
        """Parameters and buffers of model and average, which are written in place, tied ones once.
        The optimizer's tensors are not included, as they come and go."""
        parts = {"model": self.model}
        if self.average is not None:
            parts["average"] = self.average.model
        return {
            f"{prefix}/{name}": tensor.detach()
            for prefix, part in parts.items()
            for name, tensor in (*part.named_parameters(), *part.named_buffers())
        }
