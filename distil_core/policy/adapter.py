"""LoRA adapters as peft writes them: merged into the model they were trained on."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distil_core.errors import CheckpointError

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds an adapter instead of a whole model."""
    return (folder / _CONFIG).exists() and not (folder / "config.json").exists()


@contextmanager
def merged_adapter(folder: Path) -> Iterator[Path]:
    """A checkpoint folder with the adapter's model, the adapter added to its weights (in their own
    dtype), and the tokenizer: the adapter's where it has one, else the model's.

    Raises `CheckpointError` when the adapter is no LoRA, has no safetensors weights, does not fit,
    or when the model it names is no folder here.
    """
    base_dir = _base_dir(folder)
    if not (folder / _WEIGHTS).exists():
        raise CheckpointError(
            f"{folder} holds no {_WEIGHTS}: pickled weights run code when they are loaded; save "
            "the adapter anew with peft's `save_pretrained`"
        )
    # Both take seconds to import: only where an adapter is really merged.
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        model: Any = AutoModelForCausalLM.from_pretrained(base_dir, local_files_only=True)
        adapted = PeftModel.from_pretrained(model, str(folder))
        with safe_open(folder / _WEIGHTS, "pt") as file:
            # peft leaves out what finds no place in the model, and only logs it.
            if unplaced := set(file.keys()) ^ set(get_peft_model_state_dict(adapted)):
                raise ValueError(f"{len(unplaced)} tensors do not fit, such as {min(unplaced)}")
        merged = adapted.merge_and_unload(safe_merge=True)
        has_tokenizer = (folder / "tokenizer_config.json").exists()
        tokenizer = AutoTokenizer.from_pretrained(
            folder if has_tokenizer else base_dir, local_files_only=True
        )
    except Exception as error:  # peft, transformers and safetensors raise many unrelated types
        raise CheckpointError(
            f"the adapter in {folder} cannot be merged into the model in {base_dir} "
            f"({type(error).__name__}: {error}): is it the model that it was trained on?"
        ) from error
    with tempfile.TemporaryDirectory(prefix="distil-merged-") as temporary:
        merged.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        yield Path(temporary)


def _base_dir(folder: Path) -> Path:
    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        kind, name = config["peft_type"], config["base_model_name_or_path"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder / _CONFIG} is no adapter's configuration ({type(error).__name__}: {error})"
        ) from error
    if kind != "LORA":
        raise CheckpointError(
            f"the adapter in {folder} is of kind {kind!r}; only LORA can be added to the weights: "
            "merge it with peft, and give the whole model"
        )
    base_dir = Path(str(name)).expanduser()
    if not (base_dir / "config.json").exists():
        raise CheckpointError(
            f"the adapter in {folder} was trained on {name!r}, which is no checkpoint folder here: "
            f"bring that model here and write its path into {_CONFIG} (base_model_name_or_path)"
        )
    return base_dir
