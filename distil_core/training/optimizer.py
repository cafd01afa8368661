"""AdamW and its learning-rate schedule, shared by warm start and training."""

from importlib.metadata import version
from typing import Any

import torch

from distil_core.errors import ConfigError

_BETAS = (0.9, 0.95)


def make_optimizer(
    model: torch.nn.Module, learning_rate: float, weight_decay: float, state_bits: int = 32
) -> torch.optim.Optimizer:
    """AdamW, with weight decay on matrices only, as is usual for transformers.

    state_bits: 8 or 32, of each number in its moments. Raises `ConfigError` for 8 without the
    library bitsandbytes.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.dim() < 2], "weight_decay": 0.0},
    ]
    if state_bits == 8:
        eight_bit: torch.optim.Optimizer = _eight_bit_adamw()(
            groups, lr=learning_rate, betas=_BETAS
        )
        return eight_bit
    return torch.optim.AdamW(groups, lr=learning_rate, betas=_BETAS, fused=True)


def optimizer_library(state_bits: int) -> str:
    """The library whose optimizer `make_optimizer` takes, with its version. Raises `ConfigError` as
    that does."""
    if state_bits == 8:
        _eight_bit_adamw()
        return f"bitsandbytes {version('bitsandbytes')}"
    return f"torch {torch.__version__}"


def _eight_bit_adamw() -> Any:
    """A tensor of fewer than 4096 numbers keeps its moments in float32 there."""
    try:
        from bitsandbytes.optim.adamw import AdamW8bit
    except ImportError as error:
        raise ConfigError(
            "train.optimizer_state_bits: 8 needs the library bitsandbytes, which cannot be "
            f"imported here ({error}): pip install 'distil[eight-bit]', or leave it at 32"
        ) from error
    return AdamW8bit


def set_learning_rate(
    optimizer: torch.optim.Optimizer,
    step: int,
    num_steps: int,
    peak: float,
    final_fraction: float,
    warmup_steps: int,
) -> float:
    """Set and return the rate of this step: linear warm-up, then linear decay to
    `final_fraction * peak` at the last step."""
    if step < warmup_steps:
        rate = peak * (step + 1) / warmup_steps
    else:
        done = (step - warmup_steps) / max(1, num_steps - 1 - warmup_steps)
        rate = peak * (1 - (1 - final_fraction) * done)
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate
