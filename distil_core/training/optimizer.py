"""AdamW and its learning-rate schedule, shared by warm start and training."""

import torch


def make_optimizer(
    model: torch.nn.Module, learning_rate: float, weight_decay: float
) -> torch.optim.AdamW:
    """AdamW, with weight decay on matrices only, as is usual for transformers."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.95), fused=True)


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
