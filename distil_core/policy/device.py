"""Check the device that `compute.device` names before any work."""

from pathlib import Path

import torch

from distil_core.config.models import ComputeParams
from distil_core.errors import ConfigError

_CPU_INFO = Path("/proc/cpuinfo")
_HALF_PRECISION_FEATURES = {"avx512_bf16", "amx_bf16", "bf16"}
"""As Linux names them, on x86 and ARM."""


def require_device(compute: ComputeParams) -> torch.device:
    """Raises `ConfigError` where compute.device is cuda and torch finds no such device, and where
    compute.dtype is bfloat16 on a CPU without instructions for it, which would take longer and be
    less exact."""
    if compute.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"compute.device is cuda, but torch {torch.__version__} finds no CUDA device: set "
            "compute.device to cpu and restart the campaign (`distil restart`), or run on a "
            "machine with a GPU, its driver and a CUDA build of torch"
        )
    if compute.device == "cpu" and compute.dtype == "bfloat16" and not _has_half_precision():
        raise ConfigError(
            "compute.dtype is bfloat16 on a CPU that has no instructions for it ("
            f"{', '.join(sorted(_HALF_PRECISION_FEATURES))} in {_CPU_INFO}): set compute.dtype to "
            "float32, or compute.device to cuda"
        )
    return torch.device(compute.device)


def _has_half_precision() -> bool:
    if not _CPU_INFO.exists():
        return False
    lines = (line.partition(":") for line in _CPU_INFO.read_text().splitlines())
    features = {
        feature
        for name, _, value in lines
        if name.strip() in ("flags", "Features")
        for feature in value.split()
    }
    return bool(features & _HALF_PRECISION_FEATURES)
