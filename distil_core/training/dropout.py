"""Dropout whose random numbers depend on a seed alone, so that resumed training drops the same."""

import torch


def seed_dropout(seed: int) -> None:
    """To be called before a forward pass."""
    # `torch.manual_seed` takes a millisecond on a machine without a GPU: it notes for one that may
    # be found later who asked, with a stack trace.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
