"""Sampling and scoring with vLLM: in this process, in a server that we start, or in running
servers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from distil_core.config.models import ComputeParams
from distil_core.engines.vllm.options import Options

if TYPE_CHECKING:
    from distil_core.engines.vllm.engine import VllmEngine

__all__ = ["Options", "build"]


def build(options: Options, policy_dir: Path, compute: ComputeParams) -> VllmEngine:
    """The engine of this process with these options, with the policy in `policy_dir` loaded."""
    from distil_core.engines.vllm.pool import POOL

    return POOL.engine(options, policy_dir, compute)
