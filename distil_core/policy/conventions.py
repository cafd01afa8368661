"""How a checkpoint begins and ends texts, by its files: what its tokenizer alone does not tell.

Chat models often end a turn with another token than the tokenizer's end of sequence, and name it in
generation_config.json. Some models need a first token that their tokenizer does not write.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from distil_core.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_NEED_BOS = ("gemma", "recurrent_gemma")
"""How the model types begin that write nonsense without their first token, whatever their
tokenizer's files say or leave out (measured on gemma-3-270m)."""

_ADDS_BOS = "add_bos_token"
_TOKENIZER_FILES = (
    "*.model",
    "*.txt",
    "vocab.json",
    "added_tokens.json",
    "special_tokens_map.json",
)
"""Of a tokenizer, besides what transformers always writes: other programs read them."""


@dataclass(frozen=True)
class Conventions:
    """end_token_ids: in addition to the tokenizer's own. adds_bos: add_bos_token of
    tokenizer_config.json, if it is there. needs_bos: whether a text must begin with the tokenizer's
    first token although the tokenizer may not write it itself. fails_without_bos: whether the model
    is of a family that writes nonsense without it, in whatever chat template. tokenizer_files:
    those that transformers may not write again."""

    end_token_ids: tuple[int, ...] = ()
    adds_bos: bool | None = None
    needs_bos: bool = False
    fails_without_bos: bool = False
    tokenizer_files: tuple[Path, ...] = ()


_KNOWN: WeakKeyDictionary[PreTrainedTokenizerBase, Conventions] = WeakKeyDictionary()


def read_conventions(policy_dir: Path) -> Conventions:
    """Read generation_config.json, config.json and tokenizer_config.json, each of which may be
    missing. Raises `CheckpointError` where one is no JSON object, or has something else than token
    ids."""
    generation, config, tokenizer = (
        read_json_object(policy_dir / name)
        for name in ("generation_config.json", "config.json", "tokenizer_config.json")
    )
    source, named = "generation_config.json", generation.get("eos_token_id")
    if named is None:
        # Like transformers, for a checkpoint without that file.
        text_config = config.get("text_config")
        nested = text_config if isinstance(text_config, dict) else {}
        source, named = "config.json", config.get("eos_token_id", nested.get("eos_token_id"))
    said = tokenizer.get(_ADDS_BOS)
    adds_bos = said if isinstance(said, bool) else None
    family = str(config.get("model_type", "")).startswith(_NEED_BOS)
    needs_bos = family if adds_bos is None else adds_bos
    ends = _token_ids(named, policy_dir / source)
    files = sorted(file for pattern in _TOKENIZER_FILES for file in policy_dir.glob(pattern))
    return Conventions(ends, adds_bos, needs_bos, family, tuple(files))


def register_conventions(tokenizer: PreTrainedTokenizerBase, conventions: Conventions) -> None:
    """Remember the conventions for this tokenizer, so that whoever holds it can ask for them."""
    _KNOWN[tokenizer] = conventions


def write_conventions(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write what transformers loses when it saves the tokenizer: files of other formats, and
    whether a text begins with its first token. The end tokens are in the model's
    generation_config.json."""
    known = _KNOWN.get(tokenizer, Conventions())
    for file in known.tokenizer_files:
        if not (folder / file.name).exists():
            shutil.copyfile(file, folder / file.name)
    adds_bos = known.adds_bos
    path = folder / "tokenizer_config.json"
    content = read_json_object(path)
    if adds_bos is not None and content.get(_ADDS_BOS) is not adds_bos:
        text = json.dumps(content | {_ADDS_BOS: adds_bos}, indent=2, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")


def end_token_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Every token that ends a response, the tokenizer's own first."""
    own = tokenizer.eos_token_id
    named = _KNOWN.get(tokenizer, Conventions()).end_token_ids
    return tuple(dict.fromkeys([*([] if own is None else [int(own)]), *named]))


def beginning(tokenizer: PreTrainedTokenizerBase) -> str:
    """The text at the beginning of this policy's contexts: the tokens that its tokenizer writes
    before any text, or the first token that its files ask for; '' where there is neither."""
    bare = list(tokenizer.encode("x", add_special_tokens=False))
    marked = list(tokenizer.encode("x"))
    start = next((at for at in range(len(marked)) if marked[at : at + len(bare)] == bare), 0)
    if start:
        return "".join(map(str, tokenizer.convert_ids_to_tokens(marked[:start])))
    needs_bos = _KNOWN.get(tokenizer, Conventions()).needs_bos
    return str(tokenizer.bos_token) if needs_bos and tokenizer.bos_token else ""


def fails_without_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether this policy writes nonsense after a context without its tokenizer's first token."""
    return _KNOWN.get(tokenizer, Conventions()).fails_without_bos


def read_json_object(path: Path) -> dict[str, Any]:
    """The file's content; {} where there is no file. `CheckpointError` where it is not a JSON
    object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} cannot be loaded ({type(error).__name__}: {error})"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path}: expected a JSON object, found {type(content).__name__}: copy the checkpoint "
            "anew"
        )
    return content


def _token_ids(named: object, path: Path) -> tuple[int, ...]:
    found: list[Any] = named if isinstance(named, list) else [] if named is None else [named]
    for token_id in found:
        if not isinstance(token_id, int) or isinstance(token_id, bool):
            raise CheckpointError(
                f"{path}: eos_token_id must be a token id or a list of them, found {named!r}"
            )
    # Some files write -1 for none.
    return tuple(token_id for token_id in found if token_id >= 0)
