"""Load and save policies: ordinary Hugging Face folders (config, safetensors, tokenizer)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from distil_core.config.models import ComputeParams
from distil_core.errors import CheckpointError
from distil_core.files import atomic_path
from distil_core.policy.checkpoint_files import require_model_folder
from distil_core.policy.conventions import write_conventions
from distil_core.policy.device import require_device
from distil_core.policy.known_tokens import leave_out_padding, num_known_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load_model(policy_dir: Path, compute: ComputeParams) -> PreTrainedModel:
    """The model of a checkpoint folder, in evaluation mode, on the configured device. A head that
    is padded beyond the tokenizer has logits for the tokens alone.

    Raises `CheckpointError` when the folder is missing, incomplete or damaged, and what
    `require_device` raises. Only safetensors are read, and no code of the folder is run.
    """
    device = require_device(compute)
    model = read_model(policy_dir, DTYPES[compute.dtype])
    torch.nn.Module.to(model, device)
    return model


def read_model(policy_dir: Path, dtype: torch.dtype | Literal["auto"]) -> PreTrainedModel:
    """Like `load_model`, on the CPU. dtype: 'auto' for the weights' own."""
    if not (policy_dir / "config.json").exists():
        raise CheckpointError(
            f"no checkpoint in {policy_dir}: expected config.json there; "
            "run the stage that makes this policy, or `dvc checkout`"
        )
    require_model_folder(policy_dir)
    # Imported here, as transformers takes seconds: only where a model is loaded.
    from transformers import AutoModelForCausalLM

    _hide_progress_bars()
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            policy_dir,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=dtype,
            output_loading_info=True,
        )
    except Exception as error:  # transformers and safetensors raise many unrelated types
        raise CheckpointError(
            f"the checkpoint in {policy_dir} cannot be loaded ({type(error).__name__}: {error}); "
            "copy it anew, or `dvc checkout --force` restores a policy of the campaign"
        ) from error
    model, loading = loaded
    # transformers gives a missing tensor random values and only logs it.
    if missing := sorted(loading["missing_keys"]):
        raise CheckpointError(
            f"the checkpoint in {policy_dir} is incomplete: {len(missing)} tensors are missing, "
            f"the first is {missing[0]}; copy it anew, or `dvc checkout --force` restores a policy "
            "of the campaign"
        )
    found: PreTrainedModel = model.eval()
    if (num_known := num_known_tokens(policy_dir)) is not None:
        leave_out_padding(found, num_known)
    return found


def save_policy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, policy_dir: Path
) -> None:
    """Write the folder atomically: config.json, model.safetensors, tokenizer files."""
    with atomic_path(policy_dir) as temporary:
        write_policy(model, tokenizer, temporary)


def write_policy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write the same files into `folder`, for a caller that renames the folder when it is
    complete."""
    _hide_progress_bars()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_conventions(tokenizer, folder)


def _hide_progress_bars() -> None:
    """Turn off transformers' bars for loading and saving, which would break up our own."""
    from transformers.utils import logging

    logging.disable_progress_bar()
