"""A base policy from outside: a local Hugging Face folder, a GGUF file, or a hub id pinned to a
revision."""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distil_core.config.models import PretrainedBase
from distil_core.errors import CheckpointError
from distil_core.files import atomic_path
from distil_core.policy.adapter import adapted_folder, is_adapter, merged_adapter
from distil_core.policy.base_check import require_usable
from distil_core.policy.checkpoint_files import (
    WANTED,
    describing_files,
    index_files,
    require_model_folder,
    require_own_files,
    weight_files,
)
from distil_core.policy.conventions import read_json_object
from distil_core.policy.gguf_file import unpacked_gguf

_GENERATION = "generation_config.json"


def link_pretrained(base: PretrainedBase, policy_dir: Path) -> list[str]:
    """Link or copy the checkpoint's files to `policy_dir`. A LoRA adapter is merged into its model,
    so that every engine sees a whole policy. Returns one line for each thing that was changed.

    Only safetensors weights are taken: no code, and no link that leaves the folder. Raises
    `CheckpointError` where a campaign could not use the checkpoint (`require_usable`), and where
    the hub may not or cannot be reached.
    """
    source = source_folder(base)
    with atomic_path(policy_dir) as temporary:
        if is_adapter(source):
            with merged_adapter(source) as merged:
                return _bring(merged, temporary, source)
        return _bring(source, temporary, source)


def view_pretrained(base: PretrainedBase, policy_dir: Path) -> list[str]:
    """The same for a look at the checkpoint: its weights stay where they are, behind links, and it
    is not tried by loading and saving it, which takes as long again. What `policy_dir` holds is no
    artifact. Raises `CheckpointError` where it is no whole checkpoint."""
    source = source_folder(base)
    with atomic_path(policy_dir) as temporary:
        if is_adapter(source):
            with merged_adapter(source) as merged:
                return _place(merged, temporary, source, shutil.copy)
        return _place(source, temporary, source, _link)


def source_folder(base: PretrainedBase) -> Path:
    """The folder that the settings name, downloaded where that is allowed, or made of the GGUF file
    that they name. Raises `CheckpointError`."""
    source = Path(base.path_or_id).expanduser()
    if base.is_gguf:
        return unpacked_gguf(source, base.sha256)
    return source if source.is_dir() else _download(base)


def model_folder(base: PretrainedBase) -> Path:
    """The folder with the model's configuration: of an adapter's model for an adapter. Raises
    `CheckpointError`."""
    source = source_folder(base)
    return adapted_folder(source) if is_adapter(source) else source


def tokenizer_folder(base: PretrainedBase) -> Path:
    """The folder with the tokenizer: an adapter may have its own. Raises `CheckpointError`."""
    source = source_folder(base)
    has_own = (source / "tokenizer_config.json").exists()
    return source if has_own else model_folder(base)


def _bring(checkpoint: Path, target: Path, source: Path) -> list[str]:
    """Copy the files, and try the checkpoint. source: as in `_place`."""
    notes = _place(checkpoint, target, source, shutil.copy)
    try:
        require_usable(target)
    except CheckpointError as error:
        raise CheckpointError(str(error).replace(str(target), str(source))) from error
    return notes


def _place(
    checkpoint: Path, target: Path, source: Path, place_weights: Callable[[Path, Path], object]
) -> list[str]:
    """The checkpoint's files in `target`. source: the folder known to the user, for error
    messages."""
    for name in ("config.json", "tokenizer_config.json"):
        if not (checkpoint / name).exists():
            raise CheckpointError(
                f"{source} has no {name}: expected an ordinary Hugging Face folder (configuration, "
                "safetensors, tokenizer); copy or download all of it"
            )
    require_model_folder(checkpoint)
    small = [*describing_files(checkpoint), *index_files(checkpoint)]
    weights = weight_files(checkpoint)
    require_own_files([*small, *weights], checkpoint)
    target.mkdir(parents=True)
    for file in small:
        shutil.copy(file, target / file.name)
    for file in weights:
        place_weights(file, target / file.name)
    try:
        return [*_without_code(target), *_writable_generation_config(target)]
    except CheckpointError as error:
        raise CheckpointError(str(error).replace(str(target), str(source))) from error


def _link(file: Path, link: Path) -> None:
    link.symlink_to(file.resolve())


def _without_code(folder: Path) -> list[str]:
    """Remove references to code from the configurations; no such code is ever run."""
    notes = []
    for path in sorted(folder.glob("*config.json")):
        content = read_json_object(path)
        if "auto_map" in content:
            content.pop("auto_map")
            _write(path, content)
            notes.append(
                f"{path.name} names code of the checkpoint's own (auto_map), which is never run: "
                "left out; transformers' own implementation is used"
            )
    return notes


def _writable_generation_config(folder: Path) -> list[str]:
    """Repair a generation configuration that transformers reads and then refuses to write, which
    published checkpoints often have (do_sample false beside a temperature). Sampling has its own
    settings here."""
    content = read_json_object(folder / _GENERATION)
    reason = _refused(content)
    if reason is None:
        return []
    tokens = {
        name: value
        for name, value in content.items()
        if name.endswith("_token_id") and not (isinstance(value, int) and value < 0)
    }
    if (still := _refused(tokens)) is not None:
        raise CheckpointError(f"{folder / _GENERATION} cannot be used: {still}")
    _write(folder / _GENERATION, tokens)
    return [
        f"{_GENERATION} holds settings that transformers does not write again ({reason}): only "
        "its tokens are kept; sampling follows params.yaml in any case"
    ]


def _refused(content: dict[str, Any]) -> str | None:
    """Why transformers cannot read or write this generation configuration; None where it can."""
    from transformers import GenerationConfig

    with tempfile.TemporaryDirectory(prefix="distil-generation-") as temporary:
        _write(Path(temporary) / _GENERATION, content)
        try:
            GenerationConfig.from_pretrained(temporary).save_pretrained(temporary)
        except Exception as error:  # it raises many unrelated types
            return " ".join(str(error).split())[:200]
    return None


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _download(base: PretrainedBase) -> Path:
    if not base.allow_download:
        raise CheckpointError(
            f"base.path_or_id {base.path_or_id!r} is no folder here, and base.allow_download is "
            "false: give a local folder, or allow the download from the Hugging Face hub"
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(base.path_or_id, revision=base.revision, allow_patterns=list(WANTED))
        )
    except Exception as error:  # the hub's client raises many unrelated types
        raise CheckpointError(
            f"cannot download {base.path_or_id!r} at revision {base.revision!r} from the Hugging "
            f"Face hub ({type(error).__name__}: {error}): check the name, the revision, access "
            "and the network, or give a local folder"
        ) from error
