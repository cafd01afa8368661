"""Whether a model computes its activations again in the backward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distil_core.errors import TrainingError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def set_activation_checkpointing(model: PreTrainedModel, on: bool, section: str) -> None:
    """Turn it on or off. section: of the settings, for the `TrainingError` where the model does not
    support it."""
    if not on:
        if model.is_gradient_checkpointing:
            model.gradient_checkpointing_disable()
        return
    if not model.supports_gradient_checkpointing:
        raise TrainingError(
            f"{section}.activation_checkpointing: {type(model).__name__} does not support it; "
            "leave it out, or hold fewer rows at once (micro-batches)"
        )
    model.gradient_checkpointing_enable({"use_reentrant": False})
