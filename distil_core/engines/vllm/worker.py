"""The extension of each vLLM worker: loads whole policies, and reports exact tails with scores.

vLLM mixes the class named by `--worker-extension-cls` into its own worker. It is the only part of
this project that runs inside a server.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from distil_core.engines.vllm import _internals
from distil_core.policy.checkpoint_files import weight_files
from distil_core.policy.known_tokens import num_known_tokens

EXTENSION = f"{__name__}.PolicyWorker"
LM_HEAD = "lm_head.weight"
TIED_SOURCES = ("model.embed_tokens.weight", "transformer.wte.weight", "embed_tokens.weight")


class PolicyWorker:
    """Methods that vLLM's `collective_rpc` calls: they take strings, and return a string or
    nothing."""

    model_runner: Any

    def distil_load_policy(self, policy_dir: str, identity: str) -> None:
        """Replace the weights by those of a checkpoint folder, without a restart, and leave out
        what its head has beyond its tokenizer."""
        self.distil_identity = ""
        _internals.replace_weights(self.model_runner, checkpoint_tensors(Path(policy_dir)))
        self.distil_leave_out_padding(policy_dir)
        self.distil_identity = identity

    def distil_leave_out_padding(self, policy_dir: str) -> None:
        """No id beyond the folder's tokenizer has any probability from now on."""
        num_known = num_known_tokens(Path(policy_dir))
        size, *_ = _internals.model_limits(self.model_runner)
        _internals.leave_out_padding(self.model_runner, size if num_known is None else num_known)

    def distil_loaded_policy(self) -> str:
        """The identity of the last policy loaded; empty before the first."""
        return getattr(self, "distil_identity", "")

    def distil_describe(self) -> str:
        """'vocabulary size, longest sequence, max_logprobs, dtype' of this worker's model."""
        return ",".join(map(str, _internals.model_limits(self.model_runner)))

    def distil_report_tails(self) -> None:
        """From now on scores have exact tails, as `_internals.report_tails` says."""
        _internals.report_tails(self.model_runner)


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
