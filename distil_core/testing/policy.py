"""A policy for checks of engines and experts: tiny, with random weights, one token a character."""

from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from distil_core.config.models import ArchitectureParams, ComputeParams
from distil_core.policy.model import save_policy
from distil_core.policy.new_model import new_model
from distil_core.policy.tokenizer import character_tokenizer, load_tokenizer
from distil_core.registry import BuiltT, OptionsT
from distil_core.testing.contract import Subject

COMPUTE = ComputeParams(device="cpu", dtype="float32", num_threads=1)

# vLLM's CPU kernels need heads of 32 numbers or more.
_ARCHITECTURE = ArchitectureParams(
    hidden_size=64, num_layers=2, num_heads=2, intermediate_size=64, max_positions=256
)
_END_BOOST = 1.5


class PolicySubject(Subject[OptionsT, BuiltT]):
    """A component that is tried with a checkpoint: the given one, or a tiny one made for it."""

    given_policy_dir: Path | None = None

    @cached_property
    def folder(self) -> TemporaryDirectory[str]:
        """For what the checks write."""
        return TemporaryDirectory()

    @cached_property
    def policy_dir(self) -> Path:
        """Of the checkpoint."""
        return self.given_policy_dir or write_policy_for_checks(Path(self.folder.name) / "policy")

    @cached_property
    def tokenizer(self) -> Any:
        """Of the checkpoint."""
        return load_tokenizer(self.policy_dir)


def write_policy_for_checks(policy_dir: Path, seed: int = 0) -> Path:
    """A Hugging Face folder; some of its responses end, others are cut."""
    import torch

    tokenizer = character_tokenizer("")
    model = new_model(_ARCHITECTURE, tokenizer, seed)
    with torch.no_grad():
        embeddings = model.get_parameter("model.embed_tokens.weight")
        embeddings[tokenizer.eos_token_id] *= _END_BOOST
    save_policy(model, tokenizer, policy_dir)
    return policy_dir
