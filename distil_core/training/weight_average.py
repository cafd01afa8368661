"""An exponential moving average of a policy's weights, which can be saved and continued exactly."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class WeightAverage:
    """`model` holds the average, in evaluation mode and without gradients.

    It is an ordinary model in float32: saved and loaded as a checkpoint, it continues from the same
    bits. decay: the share of the old average that each step keeps.
    """

    def __init__(self, start: PreTrainedModel, decay: float):
        self.model = copy.deepcopy(start).eval().requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, model: PreTrainedModel) -> None:
        """Average in the weights after an optimizer step. Buffers are copied."""
        current = dict(model.named_parameters())
        # Tied weights are listed once, and so averaged once.
        for name, average in self.model.named_parameters():
            average.lerp_(current[name].to(average.dtype), 1.0 - self._decay)
        for mine, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
            mine.copy_(theirs)
