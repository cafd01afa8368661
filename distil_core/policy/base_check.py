"""Check before the first iteration that a campaign can use a checkpoint: load, run and save it.

transformers cannot always write again what it read, and without this check that would end the first
training after all its work.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from distil_core.errors import CheckpointError
from distil_core.policy.batching import vocabulary_size
from distil_core.policy.conventions import beginning, end_token_ids, read_json_object
from distil_core.policy.known_tokens import named_tokens
from distil_core.policy.model import read_model, write_policy
from distil_core.policy.tokenizer import load_tokenizer, tokenizer_digest

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_SAMPLE_TEXT = "One two,  three\n\t1+1=2 (café)"


@torch.inference_mode()
def require_usable(folder: Path) -> None:
    """Raise `CheckpointError` unless model and tokenizer load, belong together, have finite
    weights, and are the same after saving and loading. Writes temporary files beside `folder`, and
    holds the weights twice, in their own dtype."""
    tokenizer, model = load_tokenizer(folder), read_model(folder, "auto")
    _require_fitting(folder, model, tokenizer)
    for name, weight in model.named_parameters():
        if not bool(torch.isfinite(weight.float()).all()):
            raise CheckpointError(
                f"the checkpoint in {folder} is damaged: {name} holds NaN or infinity"
            )
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".saved-") as saved:
        try:
            write_policy(model, tokenizer, Path(saved))
        except OSError:
            raise
        except Exception as error:  # transformers and safetensors raise many unrelated types
            raise CheckpointError(
                f"the checkpoint in {folder} can be loaded, but not saved again, as each training "
                f"ends ({type(error).__name__}: {error})"
            ) from error
        changed = _changed(tokenizer, load_tokenizer(Path(saved)))
        again = read_model(Path(saved), "auto").state_dict()
    for name, tensor in model.state_dict().items():
        if name not in again or not torch.equal(tensor, again[name]):
            changed.append(name)
    if changed:
        raise CheckpointError(
            f"the checkpoint in {folder} is another one when transformers saves it and loads it "
            f"again: {', '.join(changed[:5])} changed. Save it anew with this version of "
            "transformers, and compare what it computes"
        )


def _require_fitting(
    folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    embedding: Any = model.get_input_embeddings()
    num_known = min(len(embedding.weight), vocabulary_size(model))
    named, elsewhere = named_tokens(folder, tokenizer), _tokens_of_other_senses(folder)
    wanted = {token: token_id for token, token_id in named.items() if token not in elsewhere}
    token, largest = max(wanted.items(), key=lambda entry: entry[1])
    if largest >= num_known:
        raise CheckpointError(
            f"the tokenizer in {folder} is larger than the model's embedding: {token!r} is token "
            f"{largest}, the model knows 0 to {num_known - 1}. Tokens were added without "
            "`resize_token_embeddings`: take the tokenizer that belongs to the weights, or resize "
            "and train the embedding"
        )
    if max(end_token_ids(tokenizer)) >= num_known:
        raise CheckpointError(
            f"the checkpoint in {folder} names token {max(end_token_ids(tokenizer))} as an end "
            f"(eos_token_id), but the model knows 0 to {num_known - 1}: is its "
            "generation_config.json another model's?"
        )


def _tokens_of_other_senses(folder: Path) -> set[str]:
    """Placeholders of images and the like, which a model that reads only text may share with its
    relatives, and has no embedding for (Gemma 3 with 1 billion parameters and less)."""
    settings = read_json_object(folder / "tokenizer_config.json")
    names = (settings.get(f"{sense}_token") for sense in ("image", "audio", "video"))
    return {name for name in names if isinstance(name, str)}


def _changed(before: PreTrainedTokenizerBase, after: PreTrainedTokenizerBase) -> list[str]:
    differs = {
        "the vocabulary": tokenizer_digest(before) != tokenizer_digest(after),
        "the chat template": before.chat_template != after.chat_template,
        "the end tokens": set(end_token_ids(before)) != set(end_token_ids(after)),
        "the first token": beginning(before) != beginning(after),
        "the tokens of a text": before.encode(_SAMPLE_TEXT) != after.encode(_SAMPLE_TEXT),
    }
    return [name for name, is_other in differs.items() if is_other]
