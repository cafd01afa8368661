"""The student's tokens for a text that continues what the student wrote."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from distil_core.experts.programs.base import Text
from distil_core.feedback.chat_template import response_end_id
from distil_core.policy.tokenizer import decode, encode_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BROKEN = "\ufffd"
"""What a tokenizer writes for bytes that are no character yet."""
_ANCHOR = "\n"
"""Stands before a text that is encoded without the student's own: nothing merges with it, and the
text does not get the space that some tokenizers write at the beginning."""


class ContinuedTokens:
    """Tokens for a program's texts, the same as the tokenizer gives for the student's text and the
    program's together, wherever that has a token boundary between the two.

    Where it has none (the student wrote `12` as a token, the program goes on with `4`, and `124` is
    one token), the state is the student's and stays as it is: the text is encoded for itself.

    counts: states and texts by what was done. `unwritable_states`, within a character, are not
    asked about. `split_tokens`: texts encoded for themselves. Without label: `cut`, nothing certain
    in a text that does not end; `unencodable`, not in the student's vocabulary; `misaligned`, the
    tokens spell another text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._tokenizer = tokenizer
        self._end = response_end_id(tokenizer)
        self.vocabulary_size = len(tokenizer)
        self.counts = dict.fromkeys(
            ("unwritable_states", "split_tokens", "cut", "unencodable", "misaligned"), 0
        )

    def texts(self, response_ids: Sequence[int]) -> list[str]:
        """What the student wrote before each token, and at last all of it, without the end
        token."""
        return [
            decode(self._tokenizer, response_ids[:length]) if length else ""
            for length in range(len(response_ids) + 1)
        ]

    def is_writable(self, text: str) -> bool:
        """Whether the student's text so far is one that can be gone on with; counts those that are
        not."""
        broken = text.endswith(_BROKEN)
        self.counts["unwritable_states"] += broken
        return not broken

    def tokens(self, prefix_ids: Sequence[int], prefix: str, text: Text) -> list[int]:
        """The tokens that follow `prefix_ids`, whose text is `prefix`, with the end token where the
        text ends the response; empty where it cannot be used."""
        found = self._joint(prefix_ids, prefix, text.text)
        if found is None:
            found = self._alone(prefix_ids, prefix, text.text)
        if found is None:
            unknown = self._tokenizer.unk_token_id
            is_unknown = unknown is not None and unknown in encode_text(self._tokenizer, text.text)
            return self._unused("unencodable" if is_unknown else "misaligned")
        found = [*found, self._end] if text.ends else found[:-1]
        return found or self._unused("cut")

    def _joint(self, prefix_ids: Sequence[int], prefix: str, text: str) -> list[int] | None:
        """What follows the prefix where both are encoded together; None without a boundary."""
        together = encode_text(self._tokenizer, prefix + text)
        length = len(prefix_ids)
        if together[:length] != list(prefix_ids):
            # The student's tokens for its own text need not be the tokenizer's.
            length = bisect_left(
                range(len(together)), len(prefix), key=lambda n: len(self._decoded(together[:n]))
            )
            if self._decoded(together[:length]) != prefix:
                return None
        following = together[length:]
        return following if self._spell(prefix_ids, following, prefix + text) else None

    def _alone(self, prefix_ids: Sequence[int], prefix: str, text: str) -> list[int] | None:
        for following in self._encoded_alone(text):
            if self._spell(prefix_ids, following, prefix + text):
                self.counts["split_tokens"] += 1
                return following
        return None

    def _encoded_alone(self, text: str) -> Iterator[list[int]]:
        anchor = encode_text(self._tokenizer, _ANCHOR)
        anchored = encode_text(self._tokenizer, _ANCHOR + text)
        if anchored[: len(anchor)] == anchor:
            yield anchored[len(anchor) :]
        yield encode_text(self._tokenizer, text)

    def _spell(self, prefix_ids: Sequence[int], following: list[int], text: str) -> bool:
        return self._decoded([*prefix_ids, *following]) == text

    def _decoded(self, token_ids: Sequence[int]) -> str:
        return decode(self._tokenizer, token_ids) if token_ids else ""

    def _unused(self, reason: str) -> list[int]:
        self.counts[reason] += 1
        return []
