"""An engine whose model's logits are divided by a temperature: softmax(logits / T) at each state.

It is done on the whole vocabulary, before the most likely ids are chosen. The contract of engines
has no temperature in scoring, so the model is given one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from distil_core.config.models import Component, ComputeParams
from distil_core.engines import ENGINES
from distil_core.engines.base import Engine
from distil_core.policy.conventions import end_token_ids
from distil_core.policy.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from torch.nn import Module

_ENGINE = "transformers"


def can_divide(engine: Component) -> bool:
    """Whether the engine has the model's logits at hand."""
    return ENGINES.resolve(engine.name).is_built_in and engine.name == _ENGINE


def engine_at_temperature(
    engine: Component, policy_dir: Path, compute: ComputeParams, temperature: float
) -> Engine:
    """The engine with the policy in `policy_dir`, for one that `can_divide`. It scores and samples
    at that temperature, times that of the sampler."""
    import torch

    from distil_core.engines import transformers
    from distil_core.policy.model import load_model

    def divided(module: Module, inputs: Any, output: Any) -> Any:
        logits = output.logits
        # In place, as a batch's logits may be most of the memory.
        output.logits = logits.to(torch.promote_types(logits.dtype, torch.float32)).div_(
            temperature
        )
        return output

    options = transformers.Options.model_validate(engine.options)
    model = load_model(policy_dir, compute)
    model.register_forward_hook(divided)
    ends = end_token_ids(load_tokenizer(policy_dir))
    return transformers.TransformersEngine(model, ends, options.batch_size, options.layout)
