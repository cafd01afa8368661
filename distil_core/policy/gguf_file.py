"""A model in one GGUF file, as llama.cpp's programs read it, turned into an ordinary Hugging Face
folder by transformers.

Quantised weights become the float32 numbers that they stand for, so that a policy can be trained;
as large as those, the folder is kept in the user's cache for the next campaign.
"""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from distil_core.errors import CheckpointError
from distil_core.files import atomic_path, private_folder
from distil_core.policy.model import write_policy

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def unpacked_gguf(file: Path, sha256: str | None) -> Path:
    """The folder with the file's model and tokenizer, made where it is not in the cache yet
    (`XDG_CACHE_HOME`, else ~/.cache). sha256: what the settings say that the file's digest is.

    Raises `CheckpointError` where the file is another one, is damaged, or is of a kind that
    transformers does not read, and where the package `gguf` is missing.
    """
    digest = _digest(file)
    if sha256 != digest:
        raise CheckpointError(
            f"{file} is not the file that base.sha256 names: expected {sha256 or 'a digest'}, "
            f"found {digest}. `distil pin` writes that of the file into params.yaml"
        )
    if find_spec("gguf") is None:
        raise CheckpointError(
            f"to read {file} the package gguf is needed: `pip install 'distil[gguf]'`"
        )
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "distil" / "gguf"
    # What transformers makes of a file may change with its version.
    folder = caches / f"{digest}-transformers-{version('transformers')}"
    if not folder.is_dir():
        private_folder(caches)
        with atomic_path(folder) as temporary:
            _convert(file, temporary)
    return folder


def _convert(file: Path, folder: Path) -> None:
    # Imported here, as transformers takes seconds: only where there is such a file.
    from transformers import AutoModelForCausalLM, AutoTokenizer

    named: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            file.parent,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
            **named,
        )
        tokenizer = AutoTokenizer.from_pretrained(file.parent, trust_remote_code=False, **named)
    except Exception as error:  # transformers and gguf raise many unrelated types
        raise CheckpointError(
            f"{file} cannot be read as GGUF ({type(error).__name__}: {error}): is it whole, and of "
            "an architecture that transformers reads from GGUF? Copy it anew, or take the model's "
            "folder with safetensors"
        ) from error
    model, loading = loaded
    # transformers gives a missing tensor random values and only logs it.
    if missing := sorted(loading["missing_keys"]):
        raise CheckpointError(
            f"{file} is incomplete: {len(missing)} tensors are missing, the first is {missing[0]}: "
            "copy it anew"
        )
    write_policy(_plain(model), tokenizer, folder)


def _plain(model: PreTrainedModel) -> PreTrainedModel:
    """The same model without the notes that it was quantised, which its weights are no longer and
    with which transformers does not save it."""
    from transformers import AutoModelForCausalLM

    config = model.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(model.state_dict(), assign=True)
    plain.tie_weights()
    plain.generation_config = model.generation_config
    return plain


def _digest(file: Path) -> str:
    try:
        facts = file.stat()
        return _digest_of(file, facts.st_size, facts.st_mtime_ns)
    except OSError as error:
        raise CheckpointError(
            f"cannot read {file}, which base.path_or_id names: {error.strerror}"
        ) from error


# A campaign asks for the folder several times, and a large file takes seconds each time.
@lru_cache(maxsize=8)
def _digest_of(file: Path, size: int, changed_ns: int) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
