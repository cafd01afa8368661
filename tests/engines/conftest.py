"""Policies that vLLM can hold: its CPU kernels need heads of 32 numbers or more."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

END = 1


@pytest.fixture(scope="session")
def loud_policy(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """A saved policy for a seed, with tied embeddings and responses of all lengths. Read only."""
    import torch

    from distil_core.config.models import ArchitectureParams
    from distil_core.policy.model import save_policy
    from distil_core.policy.new_model import new_model

    architecture = ArchitectureParams(
        hidden_size=64, num_layers=2, num_heads=2, intermediate_size=64, max_positions=128
    )
    folder = tmp_path_factory.mktemp("loud")

    def saved(seed: int) -> Path:
        policy_dir = folder / f"policy-{seed:03d}"
        if not policy_dir.exists():
            model = new_model(architecture, tokenizer, seed)
            with torch.no_grad():
                model.get_input_embeddings().weight[END] *= 1.5
            save_policy(model, tokenizer, policy_dir)
        return policy_dir

    return saved
