"""A base policy from outside: a local Hugging Face folder, or a hub id pinned to a revision."""

import shutil
from pathlib import Path

from distil_core.config.models import PretrainedBase
from distil_core.errors import CheckpointError
from distil_core.files import atomic_path
from distil_core.policy.adapter import is_adapter, merged_adapter

_WANTED = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")


def link_pretrained(base: PretrainedBase, policy_dir: Path) -> None:
    """Bring the checkpoint's files to `policy_dir`; a LoRA adapter is merged into its model, so
    that every engine takes it for what it is, a policy.

    Only safetensors weights are taken: pickled weights run code when they are loaded. Raises
    `CheckpointError` when the folder holds none, or the hub may not or cannot be asked.
    """
    source = Path(base.path_or_id).expanduser()
    if not source.is_dir():
        source = _download(base)
    if is_adapter(source):
        with atomic_path(policy_dir) as temporary, merged_adapter(source) as merged:
            _copy_checkpoint(merged, temporary)
        return
    with atomic_path(policy_dir) as temporary:
        _copy_checkpoint(source, temporary)


def _copy_checkpoint(source: Path, target: Path) -> None:
    files = sorted(file for pattern in _WANTED for file in source.glob(pattern))
    if not any(file.suffix == ".safetensors" for file in files):
        raise CheckpointError(
            f"{source} holds no *.safetensors: expected an ordinary Hugging Face folder (config, "
            "safetensors, tokenizer); convert older weights with `save_pretrained`"
        )
    target.mkdir(parents=True)
    for file in files:
        shutil.copy(file, target / file.name)


def _download(base: PretrainedBase) -> Path:
    if not base.allow_download:
        raise CheckpointError(
            f"base.path_or_id {base.path_or_id!r} is no folder here, and base.allow_download is "
            "false: give a local folder, or allow the download from the Hugging Face hub"
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(base.path_or_id, revision=base.revision, allow_patterns=list(_WANTED))
        )
    except Exception as error:  # the hub's client raises many unrelated types
        raise CheckpointError(
            f"cannot download {base.path_or_id!r} at revision {base.revision!r} from the Hugging "
            f"Face hub ({type(error).__name__}: {error}): check the name, the revision, access "
            "and the network, or give a local folder"
        ) from error
