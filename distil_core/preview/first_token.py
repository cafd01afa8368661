"""Whether contexts begin with the model's first token (BOS), and whether they should."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from distil_core.policy.conventions import beginning
from distil_core.preview.attempts import Tried

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def described_beginning(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> str:
    """What a context's first token is, in words."""
    bos = tokenizer.bos_token
    if bos is None:
        return "the tokenizer has no first token (bos_token)"
    first = list(token_ids[:2])
    if first[:1] != [tokenizer.bos_token_id]:
        return f"does not begin with {bos}"
    twice = first[1:] == [tokenizer.bos_token_id]
    return f"begins with {bos}{', twice' if twice else ''}"


def count_with_bos(tried: Tried) -> tuple[int, int]:
    """How many contexts of student and expert begin with BOS, and how many there are."""
    contexts = _contexts(tried)
    bos = tried.tokenizer.bos_token_id
    with_bos = sum(bos is not None and list(ids[:1]) == [bos] for ids in contexts)
    return with_bos, len(contexts)


def missing_bos(tried: Tried) -> str | None:
    """What to say where contexts lack the token that the checkpoint's own files ask for."""
    with_bos, count = count_with_bos(tried)
    if with_bos == count or not beginning(tried.tokenizer):
        return None
    bos = tried.tokenizer.bos_token
    return (
        f"contexts do not begin with {bos}, which the checkpoint's files have before a text: its "
        f"chat template does not write it, or context.bos is {tried.params.context.bos}. Where "
        "the model was trained with it, set context.bos: always"
    )


def _contexts(tried: Tried) -> list[Sequence[int]]:
    students = [context.token_ids for context in tried.contexts.values()]
    return [*students, *(one.judged.context.token_ids for one in tried.attempts if one.judged)]
