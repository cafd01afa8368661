"""LoRA adapters as peft writes them, merged into the model they were trained on."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distil_core.errors import CheckpointError
from distil_core.policy.checkpoint_files import (
    describing_files,
    require_model_folder,
    require_own_files,
    weight_files,
)
from distil_core.policy.conventions import read_json_object
from distil_core.policy.model import write_policy
from distil_core.policy.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from peft import LoraConfig

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_GENERATION = "generation_config.json"
_READ = frozenset(
    {
        "alpha_pattern",
        "bias",
        "fan_in_fan_out",
        "layers_pattern",
        "layers_to_transform",
        "lora_alpha",
        "lora_bias",
        "modules_to_save",
        "r",
        "rank_pattern",
        "target_modules",
        "task_type",
        "use_dora",
        "use_rslora",
    }
)
"""What decides what an adapter computes once it is trained."""
_OF_TRAINING = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "inference_mode",
        "lora_dropout",
        "peft_type",
        "peft_version",
        "revision",
    }
)
_PLAIN_INITIALISATIONS = (None, True, False, "gaussian")
_PLAIN_NAME = re.compile(r"\^?[\w.-]+\$?")


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds an adapter instead of a whole model."""
    return (folder / _CONFIG).exists() and not (folder / "config.json").exists()


def adapted_folder(folder: Path) -> Path:
    """The checkpoint that the adapter was trained on. Raises `CheckpointError` where it is not
    here."""
    return _base_dir(folder, read_json_object(folder / _CONFIG))


@contextmanager
def merged_adapter(folder: Path) -> Iterator[Path]:
    """A checkpoint folder with the adapter's model, the adapter added to its weights (in their own
    dtype), and a tokenizer: the adapter's where it has one, else the model's.

    Raises `CheckpointError` when the adapter is not a plain LoRA, has no safetensors weights, does
    not fit the model, or holds links that leave its folder, and when the model it names is no
    checkpoint here. Nothing that its configuration names is imported.
    """
    require_own_files([folder / _CONFIG, *describing_files(folder)], folder)
    written = read_json_object(folder / _CONFIG)
    base_dir = _base_dir(folder, written)
    if not (folder / _WEIGHTS).exists():
        raise CheckpointError(
            f"{folder} holds no {_WEIGHTS}: pickled weights run code when they are loaded; save "
            "the adapter anew with peft's `save_pretrained`"
        )
    require_own_files([folder / _WEIGHTS], folder)
    require_model_folder(base_dir)
    require_own_files([*describing_files(base_dir), *weight_files(base_dir)], base_dir)
    config = _lora_config(folder, written)
    # Imported here, as all take seconds: only where an adapter is merged.
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM, GenerationConfig

    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            base_dir,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            # The folder's own tokenizer is copied unchanged, and checked with the rest.
            generation_config=GenerationConfig(),
        )
        adapted = PeftModel.from_pretrained(model, str(folder), config=config)
        with safe_open(folder / _WEIGHTS, "pt") as file:
            # peft skips weights that do not fit the model, and only logs that.
            if unplaced := set(file.keys()) ^ set(get_peft_model_state_dict(adapted)):
                raise ValueError(f"{len(unplaced)} tensors do not fit, such as {min(unplaced)}")
        merged = adapted.merge_and_unload(safe_merge=True)
        has_tokenizer = (folder / "tokenizer_config.json").exists()
        tokenizer = load_tokenizer(folder if has_tokenizer else base_dir)
    except Exception as error:  # peft, transformers and safetensors raise many unrelated types
        raise CheckpointError(
            f"the adapter in {folder} cannot be merged into the model in {base_dir} "
            f"({type(error).__name__}: {error}): is it the model that it was trained on?"
        ) from error
    with tempfile.TemporaryDirectory(prefix="distil-merged-") as temporary:
        write_policy(merged, tokenizer, Path(temporary))
        if (base_dir / _GENERATION).exists():
            shutil.copy(base_dir / _GENERATION, temporary)
        else:
            # In that case the model's configuration says how a text ends.
            (Path(temporary) / _GENERATION).unlink()
        yield Path(temporary)


def _base_dir(folder: Path, written: dict[str, Any]) -> Path:
    missing = [key for key in ("peft_type", "base_model_name_or_path") if key not in written]
    if missing:
        raise CheckpointError(
            f"{folder / _CONFIG} is no adapter's configuration: it has no {', no '.join(missing)}"
        )
    kind, name = written["peft_type"], written["base_model_name_or_path"]
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


def _lora_config(folder: Path, written: dict[str, Any]) -> LoraConfig:
    """peft's configuration from the settings that are known to be safe: others may name modules to
    import, or mean another computation."""
    from peft import LoraConfig

    plain = LoraConfig()
    for key, value in written.items():
        if key in _READ | _OF_TRAINING or not value or value == getattr(plain, key, None):
            continue
        if key == "init_lora_weights" and value in _PLAIN_INITIALISATIONS:
            continue
        raise CheckpointError(
            f"{folder / _CONFIG} sets {key} to {value!r}, which this does not read: merge the "
            "adapter with peft where you trust it, and give the whole model"
        )
    settings = {key: written[key] for key in _READ & written.keys()}
    for key in ("rank_pattern", "alpha_pattern"):
        # peft would read them as regular expressions, which may take for ever.
        if odd := [name for name in settings.get(key) or {} if not _PLAIN_NAME.fullmatch(name)]:
            raise CheckpointError(
                f"{folder / _CONFIG}: {key} names {odd[0]!r}, expected names of modules"
            )
    if not isinstance(settings.get("target_modules"), list):
        settings["target_modules"] = _adapted_modules(folder)
    try:
        return LoraConfig(**settings)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / _CONFIG} is no LoRA's configuration ({error})") from error


def _adapted_modules(folder: Path) -> list[str]:
    """Full names of the modules that the weights belong to; the configuration may only have a
    pattern."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / _WEIGHTS, "pt") as file:
            names = list(file.keys())
    except SafetensorError as error:
        raise CheckpointError(f"{folder / _WEIGHTS} is damaged ({error})") from error
    found = {name.partition(".lora_")[0] for name in names if ".lora_" in name}
    return sorted(name.removeprefix("base_model.model.") for name in found)
