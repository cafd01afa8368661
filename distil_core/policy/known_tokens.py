"""Which of a model's logits are tokens. Heads are often padded beyond the tokenizer, for speed, and
what stands there was never trained: those logits are left out wherever the model is used, so that
such an id is never drawn, never among the most likely, and has probability zero.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from distil_core.policy.conventions import read_conventions, read_json_object
from distil_core.policy.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_NUM_KNOWN = "distil_num_known_tokens"


def named_tokens(folder: Path, tokenizer: PreTrainedTokenizerBase | None = None) -> dict[str, int]:
    """The tokens that the folder's own files name; transformers adds defaults of the model family
    to them, such as an unknown token that no text ever becomes. {} where there is no tokenizer.
    Raises `CheckpointError`. tokenizer: of the folder, where it is loaded already."""
    if not (folder / "tokenizer.json").exists():
        if tokenizer is None and not (folder / "tokenizer_config.json").exists():
            return {}
        return dict((tokenizer or load_tokenizer(folder)).get_vocab())
    from tokenizers import Tokenizer

    named = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab(with_added_tokens=True)
    added = read_json_object(folder / "tokenizer_config.json").get("added_tokens_decoder") or {}
    named |= {str(entry["content"]): int(token_id) for token_id, entry in added.items()}
    return dict(named)


def num_known_tokens(folder: Path) -> int | None:
    """One more than the largest id that the folder's tokenizer or its end tokens have; what lies
    beyond in the model's head is padding. None where there is no tokenizer."""
    named = named_tokens(folder).values()
    ends = read_conventions(folder).end_token_ids
    return max([*named, *ends]) + 1 if named else None


def leave_out_padding(model: PreTrainedModel, num_known: int) -> None:
    """From now on the model's logits are those of the first `num_known` tokens. A head that is no
    larger is left as it is."""
    if num_known >= len(_head(model).weight):
        return

    def without_padding(_model: Any, _inputs: Any, output: Any) -> Any:
        output.logits = output.logits[..., :num_known]
        return output

    setattr(model, _NUM_KNOWN, num_known)
    model.register_forward_hook(without_padding)


def num_logits(model: PreTrainedModel) -> int:
    """How many logits the model has at each position, without padding."""
    known: int | None = getattr(model, _NUM_KNOWN, None)
    return len(_head(model).weight) if known is None else known


def head_parameters(model: PreTrainedModel) -> tuple[Tensor, Tensor | None]:
    """Weight [V, d] and bias [V] of the head without its padding, for who computes logits from
    them."""
    head, num_known = _head(model), num_logits(model)
    if num_known == len(head.weight):
        return head.weight, head.bias
    return head.weight[:num_known], None if head.bias is None else head.bias[:num_known]


def _head(model: PreTrainedModel) -> Any:
    return model.get_output_embeddings()
