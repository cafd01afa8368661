"""Check the device that `compute.device` names before any work."""

import torch

from distil_core.config.models import ComputeParams
from distil_core.errors import ConfigError


def require_device(compute: ComputeParams) -> torch.device:
    """Raises `ConfigError` where compute.device is cuda and torch finds no such device."""
    if compute.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"compute.device is cuda, but torch {torch.__version__} finds no CUDA device: set "
            "compute.device to cpu and restart the campaign (`distil restart`), or run on a "
            "machine with a GPU, its driver and a CUDA build of torch"
        )
    return torch.device(compute.device)
