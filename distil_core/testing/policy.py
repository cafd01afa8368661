"""A policy for checks of engines and experts: tiny, with random weights, one token a character."""

from pathlib import Path

from distil_core.config.models import ArchitectureParams, ComputeParams
from distil_core.policy.model import save_policy
from distil_core.policy.new_model import new_model
from distil_core.policy.tokenizer import character_tokenizer

COMPUTE = ComputeParams(device="cpu", dtype="float32", num_threads=1)

# vLLM's CPU kernels need heads of 32 numbers or more.
_ARCHITECTURE = ArchitectureParams(
    hidden_size=64, num_layers=2, num_heads=2, intermediate_size=64, max_positions=256
)
_END_BOOST = 1.5


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
