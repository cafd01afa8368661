"""The extension of each vLLM worker: loads whole policies, and reports exact tails with scores.

vLLM mixes the class named by `--worker-extension-cls` into its own worker. It is the only part of
this project that runs inside a server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from distil_core.policy.checkpoint_files import weight_files

EXTENSION = f"{__name__}.PolicyWorker"
LM_HEAD = "lm_head.weight"
TIED_SOURCES = ("model.embed_tokens.weight", "transformer.wte.weight", "embed_tokens.weight")


class PolicyWorker:
    """Methods that vLLM's `collective_rpc` calls: they take strings, and return a string or
    nothing."""

    model_runner: Any

    def distil_load_policy(self, policy_dir: str, identity: str) -> None:
        """Replace the weights by those of a checkpoint folder, without a restart."""
        self.distil_identity = ""
        self.model_runner.reload_weights(weights_iterator=checkpoint_tensors(Path(policy_dir)))
        self.distil_identity = identity

    def distil_loaded_policy(self) -> str:
        """The identity of the last policy loaded; empty before the first."""
        return getattr(self, "distil_identity", "")

    def distil_describe(self) -> str:
        """'vocabulary size, longest sequence, max_logprobs, dtype' of this worker's model."""
        config = self.model_runner.model_config
        vocabulary_size = config.get_vocab_size()
        max_logprobs = vocabulary_size if config.max_logprobs == -1 else config.max_logprobs
        return f"{vocabulary_size},{config.max_model_len},{max_logprobs},{config.dtype}"

    def distil_report_tails(self) -> None:
        """From now on report the mass outside the top K in place of each prompt position's own
        token.

        vLLM lists the top K after one entry for the prompt's token, which scoring does not need.
        Its place is taken by an entry whose id is the vocabulary's size, which is no token, and
        whose value is the log of the remaining mass. Computed as 1 minus the top K it would be lost
        to rounding.
        """
        sampler = self.model_runner.sampler
        if not hasattr(sampler, "distil_original"):
            sampler.distil_original = sampler.gather_logprobs
            sampler.gather_logprobs = _with_tails(sampler.distil_original)


def checkpoint_tensors(policy_dir: Path) -> Iterator[tuple[str, Tensor]]:
    """All tensors of the model's safetensors files. With tied embeddings it adds the output
    layer's, which such files leave out: vLLM on CPU would otherwise keep its old one."""
    names = set()
    tied = None
    for file in weight_files(policy_dir):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a mapping
                tensor = tensors.get_tensor(name)
                names.add(name)
                if name in TIED_SOURCES:
                    tied = tensor
                yield name, tensor
    if LM_HEAD not in names and tied is not None:
        yield LM_HEAD, tied


def _with_tails(gather: Callable[..., Any]) -> Callable[..., Any]:
    def gather_with_tails(logprobs: Tensor, num_logprobs: int, token_ids: Tensor) -> Any:
        gathered = gather(logprobs, num_logprobs, token_ids)
        # Sampling asks for no top K, so samples keep their own token's entry.
        if num_logprobs > 0:
            top_ids_nk = gathered.logprob_token_ids[:, 1:].long()
            outside_nv = logprobs.scatter(-1, top_ids_nk, -torch.inf)
            gathered.logprobs[:, 0] = outside_nv.double().logsumexp(-1)
            gathered.logprob_token_ids[:, 0] = logprobs.shape[-1]
        return gathered

    return gather_with_tails
