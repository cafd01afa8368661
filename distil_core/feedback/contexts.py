"""Contexts as token ids: made in the same way for student and expert, bounded in length, ending
alike.

A context that is too long is shortened by the rules of `context.shorten`, in their order, and the
caller is told which fields were shortened. Where the rules do not suffice it is an error. Nothing
is cut silently.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from distil_core.config.models import ContextParams
from distil_core.errors import ConfigError, DataError
from distil_core.feedback.chat_template import render_chat
from distil_core.feedback.compose import (
    TemplatePart,
    expert_values,
    has_feedback,
    render,
    template_parts,
)
from distil_core.feedback.wording import worded, worded_verdict
from distil_core.policy.conventions import beginning
from distil_core.policy.text_segments import Segment
from distil_core.policy.tokenizer import encode_context
from distil_core.verifiers.base import FeedbackItem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class RenderedContext:
    """values: the content that was filled in. shortened_fields: the fields of which a part was left
    out."""

    segments: list[Segment]
    token_ids: list[int]
    values: Mapping[str, str]
    shortened_fields: tuple[str, ...]


class ContextRenderer:
    """Renders both contexts of a campaign. Raises `ConfigError` where they do not end in the same
    token.

    ending_ids: the tokens in which every context ends, right before the response. expert_template:
    of the settings.
    """

    def __init__(self, params: ContextParams, tokenizer: PreTrainedTokenizerBase):
        self._params = params
        self.expert_template = params.expert_template
        self._tokenizer = tokenizer
        self._student_parts = self._parts(params.student_template)
        self._expert_parts = self._parts(params.expert_template)
        self.ending_ids = self._common_ending()

    def student(self, prompt: str, name: str) -> RenderedContext:
        """The student's context. name: of the problem, for the `DataError` where the context is too
        long."""
        return self._fitted(self._student_parts, {"prompt": prompt}, name)

    def expert(
        self,
        prompt: str,
        attempt: str,
        verdict: str,
        feedback: Sequence[FeedbackItem],
        name: str,
    ) -> RenderedContext:
        """The expert's context. name: of the rollout, for the `DataError` where the context is too
        long."""
        said = worded_verdict(verdict, self._params.wording)
        values = expert_values(prompt, attempt, said, self.worded(feedback))
        return self._fitted(self._expert_parts, values, name)

    def worded(self, feedback: Sequence[FeedbackItem]) -> tuple[FeedbackItem, ...]:
        """The feedback in the words of `context.wording`."""
        return worded(feedback, self._params.wording)

    def has_feedback(self, feedback: Sequence[FeedbackItem]) -> bool:
        """Whether the expert's context has any feedback; if not, the expert has nothing to say."""
        return has_feedback(self.expert_template, self.worded(feedback))

    def question(self, template: str, values: Mapping[str, str], name: str) -> RenderedContext:
        """A context of another kind, by the same rules; it need not end like the two."""
        return self._fitted(self._parts(template), values, name)

    def require_same_ending(self, *contexts: Sequence[int]) -> None:
        """Raise `DataError` unless the response follows the same tokens in all contexts."""
        for context_ids in contexts:
            found = list(context_ids[-len(self.ending_ids) :])
            if found != self.ending_ids:
                raise DataError(
                    f"a context ends in tokens {found}, expected {self.ending_ids}: it was made "
                    "with another template. Run sample again"
                )

    def _fitted(
        self, parts: Sequence[TemplatePart], values: Mapping[str, str], name: str
    ) -> RenderedContext:
        values, shortened = dict(values), []
        segments = render(parts, values)
        token_ids = encode_context(self._tokenizer, segments)
        in_template = {field for _, field in parts}
        for rule in self._params.shorten:
            if len(token_ids) <= self._params.max_context_tokens:
                break
            text, marker = values.get(rule.field, ""), self._params.shortening_marker
            if rule.field not in in_template or len(text) <= len(marker):
                continue
            values[rule.field] = self._longest_fitting(parts, values, rule.field, rule.keep)
            shortened.append(rule.field)
            segments = render(parts, values)
            token_ids = encode_context(self._tokenizer, segments)
        if len(token_ids) > self._params.max_context_tokens:
            raise DataError(
                f"the context of problem {name} has {len(token_ids)} tokens, "
                f"context.max_context_tokens allows {self._params.max_context_tokens}: raise it, "
                "leave it out, or name fields that may be shortened in context.shorten; contexts "
                "are never cut silently"
            )
        return RenderedContext(segments, token_ids, values, tuple(shortened))

    def _longest_fitting(
        self,
        parts: Sequence[TemplatePart],
        values: Mapping[str, str],
        field: str,
        keep: Literal["start", "end", "both"],
    ) -> str:
        """The longest part of the field's text that fits, with the marker; only the marker where
        nothing fits."""
        text, marker = values[field], self._params.shortening_marker
        fitting, too_long = 0, len(text)
        while too_long - fitting > 1:
            middle = (fitting + too_long) // 2
            candidate = {**values, field: _shortened(text, middle, keep, marker)}
            token_ids = encode_context(self._tokenizer, render(parts, candidate))
            if len(token_ids) <= self._params.max_context_tokens:
                fitting = middle
            else:
                too_long = middle
        return _shortened(text, fitting, keep, marker)

    def _common_ending(self) -> list[int]:
        """The tokens of the common ending of both templates' last literal texts. They are encoded
        apart from the content before them, so that every context ends in them."""
        student, expert = (
            self._tokenizer.encode(_last_literal(parts), add_special_tokens=False)
            for parts in (self._student_parts, self._expert_parts)
        )
        count = 0
        while count < min(len(student), len(expert)) and student[-1 - count] == expert[-1 - count]:
            count += 1
        if not count:
            raise ConfigError(
                "context.student_template and context.expert_template end alike, but not in the "
                f"same token: {student[-1:]} and {expert[-1:]}. Let a longer text be the same at "
                "their ends"
            )
        return list(student[-count:])

    def _parts(self, template: str) -> list[TemplatePart]:
        parts = self._chat_parts(template) if self._params.chat else template_parts(template)
        beginning = self._beginning()
        if not beginning or self._begins_with(parts, beginning):
            return parts
        # Encoded on its own: a tokenizer writes it before a text, not within one.
        return [(beginning, None), *parts]

    def _beginning(self) -> str:
        """The text with which every context must begin, by `context.bos`; '' for none."""
        if self._params.bos == "always":
            if not (found := beginning(self._tokenizer) or self._tokenizer.bos_token):
                raise ConfigError(
                    "context.bos is always, but the policy's tokenizer has no first token "
                    "(bos_token): set it to auto"
                )
            return str(found)
        # A chat template writes the model's first token itself, if there is one.
        automatic = self._params.bos == "auto" and not self._params.chat
        return beginning(self._tokenizer) if automatic else ""

    def _begins_with(self, parts: Sequence[TemplatePart], beginning: str) -> bool:
        wanted, found = (
            self._tokenizer.encode(text, add_special_tokens=False)
            for text in (beginning, parts[0][0])
        )
        return bool(found[: len(wanted)] == wanted)

    def _chat_parts(self, template: str) -> list[TemplatePart]:
        """The template as a user's message in the tokenizer's chat template.

        Fields pass through the chat template as placeholders, so that content is neither read as
        Jinja nor trimmed, and can be encoded as content afterwards.
        """
        parts = template_parts(template)
        fields = [field for _, field in parts if field is not None]
        message, number = "", 0
        for literal, field in parts:
            message += literal
            if field is not None:
                message += f"\ue000{number}\ue001"
                number += 1
        rendered = render_chat(
            self._tokenizer,
            [{"role": "user", "content": message}],
            add_generation_prompt=True,
            today=self._params.chat_date,
        )
        pieces = re.split("\ue000([0-9]+)\ue001", rendered)
        if pieces[1::2] != [str(index) for index in range(len(fields))]:
            raise ConfigError(
                "the tokenizer's chat template does not repeat a user's message as it is: write "
                "the turns into the templates and set context.chat: false"
            )
        return list(zip(pieces[::2], [*fields, None], strict=True))


def count_shortened(contexts: Sequence[RenderedContext]) -> dict[str, int]:
    """The number of shortened contexts, in total and by field, for a table's metadata."""
    counts = {"contexts": sum(bool(context.shortened_fields) for context in contexts)}
    for context in contexts:
        for field in context.shortened_fields:
            counts[field] = counts.get(field, 0) + 1
    return counts


def _shortened(text: str, kept: int, keep: Literal["start", "end", "both"], marker: str) -> str:
    """`kept` characters of the text, with the marker in place of the rest."""
    if keep == "start":
        return text[:kept] + marker
    if keep == "end":
        return marker + text[len(text) - kept :]
    head = kept - kept // 2
    return text[:head] + marker + text[len(text) - kept // 2 :]


def _last_literal(parts: Sequence[TemplatePart]) -> str:
    literal, field = parts[-1]
    return literal if field is None else ""
