"""Low-rank adapters on a frozen policy, trained like any weights and merged at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from distil_core.errors import TrainingError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from distil_core.config.models import LoraParams


class Adapters:
    """Adds adapters to `model`, in place: each target's weight W acts as W + alpha / rank * B A, B
    starts at zero, and only A and B have gradients. `merge` restores an ordinary model.

    seed: for A. section: of the settings, for errors. Raises `TrainingError` for a target that is
    not a linear layer of the model, or whose weight another layer shares.
    """

    def __init__(
        self, model: PreTrainedModel, params: LoraParams, seed: int, section: str = "train"
    ):
        _require_targets(model, params.target_modules, f"{section}.lora.target_modules")
        # Imported here, as peft takes seconds: only where adapters are trained.
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            r=params.rank,
            # peft's annotation says int; it only divides.
            lora_alpha=params.alpha,  # type: ignore[arg-type]
            lora_dropout=params.dropout,
            target_modules=list(params.target_modules),
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._adapted: Any = get_peft_model(model, config)

    def merge(self) -> None:
        """Add the adapters to the weights, in the weights' dtype, and remove them from the
        model."""
        self._adapted.merge_and_unload(safe_merge=True)


def _require_targets(model: PreTrainedModel, targets: tuple[str, ...], setting: str) -> None:
    linear = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    shared = _shared_weights(model)
    possible = ", ".join(sorted({name.rpartition(".")[2] for name in linear - shared}))
    for target in targets:
        found = {
            name
            for name, _ in model.named_modules()
            if name == target or name.endswith(f".{target}")
        }
        if not found or found - linear:
            raise TrainingError(
                f"{setting}: {target!r} names no linear layers of "
                f"{type(model).__name__}; it has {possible or 'none'}"
            )
        if found & shared:
            raise TrainingError(
                f"{setting}: the weight of {min(found & shared)!r} is also "
                f"another layer's, which merging would change: choose among {possible}"
            )


def _shared_weights(model: PreTrainedModel) -> set[str]:
    """Names of modules that share their weight with another module, such as a head tied to the
    embedding."""
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, torch.nn.Parameter):
            owners.setdefault(id(weight), []).append(name)
    return {name for names in owners.values() if len(names) > 1 for name in names}
