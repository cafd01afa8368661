"""Supervised text as examples for a model of any tokenizer: in the campaign's own contexts, with
the end token that ends a response."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from distil_core.errors import DataError
from distil_core.feedback.chat_template import response_end_id
from distil_core.feedback.contexts import ContextRenderer, RenderedContext
from distil_core.policy.tokenizer import encode_text
from distil_core.problems.messages import Prompt
from distil_core.training.supervised_file import SupervisedRow
from distil_core.training.warm_start import WarmStartExample
from distil_core.verifiers.base import FeedbackItem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class ExampleMaker:
    """Makes examples. Raises `DataError` for a text that the tokenizer cannot write, a context or
    a response that is too long, and a context that does not fit in the model with its response.

    renderer: of the campaign. max_positions: that the model knows; None where it does not say.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        renderer: ContextRenderer,
        max_response_tokens: int,
        max_positions: int | None,
    ):
        self._tokenizer = tokenizer
        self._renderer = renderer
        self._end_id = response_end_id(tokenizer)
        self._max_response_tokens = max_response_tokens
        self._max_positions = max_positions

    def has_feedback(self, items: Sequence[FeedbackItem]) -> bool:
        """Whether the expert's context shows any of it."""
        return self._renderer.has_feedback(items)

    def demonstration(self, prompt: Prompt, response: str, name: str) -> WarmStartExample:
        """The response in the student's context. name: of the text, for errors."""
        return self._example(self._renderer.student(prompt, name), response, name)

    def correction(
        self,
        prompt: Prompt,
        attempt: str,
        verdict: str,
        items: Sequence[FeedbackItem],
        response: str,
        name: str,
    ) -> WarmStartExample:
        """The response in the expert's context, which has an attempt and the feedback on it."""
        context = self._renderer.expert(prompt, attempt, verdict, items, name)
        return self._example(context, response, name)

    def of_row(self, row: SupervisedRow) -> WarmStartExample:
        """A user's own row: a correction where it has feedback."""
        if row.feedback is None:
            return self.demonstration(row.prompt, row.response, row.where)
        feedback = dict(row.feedback)
        attempt, verdict = feedback.pop("attempt", ""), feedback.pop("verdict", "")
        items = [FeedbackItem(kind, text) for kind, text in feedback.items()]
        return self.correction(row.prompt, attempt, verdict, items, row.response, row.where)

    def _example(self, context: RenderedContext, response: str, name: str) -> WarmStartExample:
        response_ids = encode_text(self._tokenizer, response)
        unknown = self._tokenizer.unk_token_id
        if unknown is not None and unknown in response_ids:
            raise DataError(
                f"{name}: the policy's tokenizer has no token for a part of {response!r:.80}"
            )
        response_ids.append(self._end_id)
        if len(response_ids) > self._max_response_tokens:
            raise DataError(
                f"{name}: the response has {len(response_ids)} tokens, "
                f"base.warm_start.max_response_tokens is {self._max_response_tokens}: raise it, or "
                "leave the row out"
            )
        num_tokens = len(context.token_ids) + len(response_ids)
        if self._max_positions is not None and num_tokens > self._max_positions:
            raise DataError(
                f"{name}: context and response have {num_tokens} tokens, the model knows "
                f"{self._max_positions} positions (max_position_embeddings)"
            )
        return WarmStartExample(context.token_ids, response_ids, list(response_ids))


def examples_digest(examples: Iterable[WarmStartExample]) -> str:
    """SHA-256 of the examples, in order."""
    digest = hashlib.sha256()
    for one in examples:
        digest.update(json.dumps([one.context_ids, one.input_ids, one.label_ids]).encode())
    return digest.hexdigest()
