"""Convert between the student's tokens and an expert's text: states to text, text to labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from distil_core.experts.response_record import Completion
from distil_core.feedback.chat_template import response_end_id
from distil_core.policy.tokenizer import decode, encode_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BROKEN = "\ufffd"
"""What a tokenizer writes for bytes that are no character yet."""


class TextLabels:
    """counts: states and answers that could not be used, by reason. `unwritable_states` end within
    a character. For answers: `refused`; `cut`, nothing certain before the length limit;
    `unencodable`, not in the student's vocabulary; `misaligned`, the tokens spell another text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._tokenizer = tokenizer
        self._end = response_end_id(tokenizer)
        self.vocabulary_size = len(tokenizer)
        self.counts = dict.fromkeys(
            ("unwritable_states", "refused", "cut", "unencodable", "misaligned"), 0
        )

    def prefix_text(self, response_ids: Sequence[int]) -> str | None:
        """The text that the student wrote so far; None where the tokens are not valid text."""
        text = decode(self._tokenizer, response_ids) if response_ids else ""
        if text.endswith(_BROKEN):
            self.counts["unwritable_states"] += 1
            return None
        return text

    def tokens(self, prefix_ids: Sequence[int], completion: Completion) -> list[int]:
        """The student's tokens for what the expert wrote from this state on, with the end token
        where the expert finished; empty where the answer cannot be used."""
        if completion.text is None:
            return self._unused("refused")
        token_ids = encode_text(self._tokenizer, completion.text)
        if completion.finish_reason == "stop":
            token_ids = [*token_ids, self._end]
        else:
            # Where the text was cut, its last token may be the beginning of a longer one.
            token_ids = token_ids[:-1]
        if not token_ids:
            return self._unused("cut")
        if self._tokenizer.unk_token_id is not None and self._tokenizer.unk_token_id in token_ids:
            return self._unused("unencodable")
        if not self._spells(prefix_ids, token_ids, completion.text):
            return self._unused("misaligned")
        return token_ids

    def _spells(self, prefix_ids: Sequence[int], token_ids: list[int], text: str) -> bool:
        """Whether the tokens, following the state's, spell the beginning of the text."""
        state = decode(self._tokenizer, prefix_ids) if prefix_ids else ""
        spelled = decode(self._tokenizer, [*prefix_ids, *token_ids]).rstrip(_BROKEN)
        return spelled.startswith(state) and text.startswith(spelled[len(state) :])

    def _unused(self, reason: str) -> list[int]:
        self.counts[reason] += 1
        return []
