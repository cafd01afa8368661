"""Contexts as token ids: made in the same way for student and expert, bounded in length, ending
alike.

A context that is too long is shortened by the rules of `context.shorten`, in their order, and the
caller is told which fields were shortened. Where the rules do not suffice it is an error. Nothing
is cut silently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from distil_core.config.models import ContextParams, ExpertChatParams
from distil_core.errors import ConfigError, DataError
from distil_core.feedback.chat_parts import ChatForm, Turn, require_same_prefix
from distil_core.feedback.compose import TemplatePart, expert_values, has_feedback, render
from distil_core.feedback.declared_tools import template_options
from distil_core.feedback.prompt_turns import (
    HISTORY,
    TEXT,
    prompt_values,
    roles_of,
    shown_prompt,
    turns_around,
)
from distil_core.feedback.thinking import without_thinking
from distil_core.feedback.wording import worded, worded_verdict
from distil_core.policy.conventions import beginning, fails_without_bos
from distil_core.policy.text_segments import Segment
from distil_core.policy.tokenizer import encode_context, encode_template
from distil_core.problems.messages import Prompt
from distil_core.verifiers.base import FeedbackItem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Whose = Literal["student", "expert"]
_BOTH: tuple[Whose, Whose] = ("student", "expert")


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
    token, or a chat template cannot write them.

    ending_ids: the tokens in which every context ends, right before the response.
    assistant_prefix: what the chat template writes there after the last turn; '' without one.
    adds_first_token: whether contexts begin with the model's first token because of context.bos,
    and not by the template itself.
    params: the settings; expert_template: theirs.
    """

    def __init__(self, params: ContextParams, tokenizer: PreTrainedTokenizerBase):
        self.params = params
        self.expert_template = params.expert_template
        self._tokenizer = tokenizer
        self._forms = _chat_forms(params, tokenizer)
        self._made: dict[tuple[Whose, tuple[str, ...]], list[TemplatePart]] = {}
        student, expert = (self._made_parts(whose, TEXT) for whose in _BOTH)
        self.assistant_prefix = self._common_prefix()
        self.ending_ids = self._common_ending(student, expert)
        self.adds_first_token = student[0] == (self._beginning(), None)

    def student(self, prompt: Prompt, name: str) -> RenderedContext:
        """The student's context. name: of the problem, for the `DataError` where the context is too
        long."""
        return self._asked("student", prompt, {}, name)

    def expert(
        self,
        prompt: Prompt,
        attempt: str,
        verdict: str,
        feedback: Sequence[FeedbackItem],
        name: str,
    ) -> RenderedContext:
        """The expert's context. name: of the rollout, for the `DataError` where the context is too
        long."""
        said = worded_verdict(verdict, self.params.wording)
        values = expert_values("", attempt, said, self.worded(feedback))
        if "attempt" in self.params.strip_thinking:
            values["attempt"] = without_thinking(attempt)
        return self._asked("expert", prompt, values, name)

    def worded(self, feedback: Sequence[FeedbackItem]) -> tuple[FeedbackItem, ...]:
        """The feedback as the expert reads it: in the words of `context.wording`, and without
        thinking in the fields of `context.strip_thinking`."""
        stripped = [
            replace(item, text=without_thinking(item.text))
            if item.kind in self.params.strip_thinking
            else item
            for item in feedback
        ]
        return worded(stripped, self.params.wording)

    def has_feedback(self, feedback: Sequence[FeedbackItem]) -> bool:
        """Whether the expert's context has any feedback; if not, the expert has nothing to say."""
        return has_feedback(self.expert_template, self.worded(feedback))

    def question(self, template: str, values: Mapping[str, str], name: str) -> RenderedContext:
        """A context of another kind, by the same rules; it need not end like the two."""
        parts = self._parts("student", turns_around(template, TEXT, "a question's template"))
        return self._fitted(parts, values, name)

    def require_same_ending(self, *contexts: Sequence[int]) -> None:
        """Raise `DataError` unless the response follows the same tokens in all contexts."""
        for context_ids in contexts:
            found = list(context_ids[-len(self.ending_ids) :])
            if found != self.ending_ids:
                raise DataError(
                    f"a context ends in tokens {found}, expected {self.ending_ids}: it was made "
                    "with another template. Run sample again"
                )

    def _asked(
        self, whose: Whose, prompt: Prompt, values: Mapping[str, str], name: str
    ) -> RenderedContext:
        strip_history = HISTORY in self.params.strip_thinking
        parts = self._made_parts(whose, roles_of(prompt))
        found = self._fitted(parts, {**values, **prompt_values(prompt, strip_history)}, name)
        if isinstance(prompt, str):
            return found
        # Who reads text alone gets the whole conversation in place of {prompt}.
        text = shown_prompt(prompt, found.values["prompt"])
        return replace(found, values={**values, "prompt": text})

    def _fitted(
        self, parts: Sequence[TemplatePart], values: Mapping[str, str], name: str
    ) -> RenderedContext:
        values, shortened = dict(values), []
        segments = render(parts, values)
        token_ids = encode_context(self._tokenizer, segments)
        in_template = {field for _, field in parts}
        for rule in self.params.shorten:
            if len(token_ids) <= self.params.max_context_tokens:
                break
            text, marker = values.get(rule.field, ""), self.params.shortening_marker
            if rule.field not in in_template or len(text) <= len(marker):
                continue
            values[rule.field] = self._longest_fitting(parts, values, rule.field, rule.keep)
            shortened.append(rule.field)
            segments = render(parts, values)
            token_ids = encode_context(self._tokenizer, segments)
        if len(token_ids) > self.params.max_context_tokens:
            raise DataError(
                f"the context of problem {name} has {len(token_ids)} tokens, "
                f"context.max_context_tokens allows {self.params.max_context_tokens}: raise it, "
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
        text, marker = values[field], self.params.shortening_marker
        fitting, too_long = 0, len(text)
        while too_long - fitting > 1:
            middle = (fitting + too_long) // 2
            candidate = {**values, field: _shortened(text, middle, keep, marker)}
            token_ids = encode_context(self._tokenizer, render(parts, candidate))
            if len(token_ids) <= self.params.max_context_tokens:
                fitting = middle
            else:
                too_long = middle
        return _shortened(text, fitting, keep, marker)

    def _common_prefix(self) -> str:
        if self._forms is None:
            return ""
        student, expert = (
            self._forms[whose].assistant_prefix(self._turns(whose, TEXT)) for whose in _BOTH
        )
        require_same_prefix(student, expert)
        return student

    def _common_ending(
        self, student_parts: Sequence[TemplatePart], expert_parts: Sequence[TemplatePart]
    ) -> list[int]:
        """The tokens of the common ending of both templates' last literal texts. They are encoded
        apart from the content before them, so that every context ends in them."""
        student, expert = (self._last_ids(parts) for parts in (student_parts, expert_parts))
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

    def _last_ids(self, parts: Sequence[TemplatePart]) -> list[int]:
        begins = len(parts) == 1
        return list(encode_template(self._tokenizer, _last_literal(parts), begins))

    def _made_parts(self, whose: Whose, roles: tuple[str, ...]) -> list[TemplatePart]:
        """The template's text around a prompt whose messages have these roles; made once each."""
        if (whose, roles) not in self._made:
            parts = self._parts(whose, self._turns(whose, roles))
            if roles != TEXT and self._last_ids(parts)[-len(self.ending_ids) :] != self.ending_ids:
                raise ConfigError(
                    f"the chat template ends the {whose}'s context otherwise where the prompt is a "
                    f"conversation ({', '.join(roles)}) than where it is a text: the response's "
                    "tokens must follow the same text in all contexts"
                )
            self._made[whose, roles] = parts
        return self._made[whose, roles]

    def _turns(self, whose: Whose, roles: tuple[str, ...]) -> list[Turn]:
        if roles != TEXT and self._forms is None:
            raise ConfigError(
                f"the prompt of a problem is a conversation ({', '.join(roles)}), which only a "
                "chat template can write: set context.chat: true, or let the problem source join "
                "it to a text (prompt_messages: joined)"
            )
        name = f"{whose}_template"
        return turns_around(getattr(self.params, name), roles, f"context.{name}")

    def _parts(self, whose: Whose, turns: Sequence[Turn]) -> list[TemplatePart]:
        if self._forms is None:
            (turn,) = turns
            parts = list(turn.parts)
        else:
            parts = self._forms[whose].parts(turns)
        beginning = self._beginning()
        if not beginning or self._begins_with(parts, beginning):
            self._require_one_beginning(parts)
            return parts
        # Encoded on its own: a tokenizer writes it before a text, not within one.
        return [(beginning, None), *parts]

    def _beginning(self) -> str:
        """The text with which every context must begin, by `context.bos`; '' for none."""
        params = self.params
        if params.bos == "always":
            if not (found := beginning(self._tokenizer) or self._tokenizer.bos_token):
                raise ConfigError(
                    "context.bos is always, but the policy's tokenizer has no first token "
                    "(bos_token): set it to auto"
                )
            return str(found)
        if params.bos == "never":
            return ""
        if not params.chat:
            return beginning(self._tokenizer)
        # A chat template writes the model's first token itself, if there is one. Some models write
        # nonsense without it, whatever template a fine-tune gave them.
        return str(self._tokenizer.bos_token or "") if fails_without_bos(self._tokenizer) else ""

    def _require_one_beginning(self, parts: Sequence[TemplatePart]) -> None:
        bos = self._tokenizer.bos_token_id
        first = self._tokenizer.encode(parts[0][0], add_special_tokens=False)[:2]
        if bos is not None and list(first) == [bos, bos]:
            raise ConfigError(
                f"contexts would begin with {self._tokenizer.bos_token!r} twice: leave it out of "
                "the template"
            )

    def _begins_with(self, parts: Sequence[TemplatePart], beginning: str) -> bool:
        wanted, found = (
            self._tokenizer.encode(text, add_special_tokens=False)
            for text in (beginning, parts[0][0])
        )
        return bool(found[: len(wanted)] == wanted)


def _chat_forms(
    params: ContextParams, tokenizer: PreTrainedTokenizerBase
) -> dict[Whose, ChatForm] | None:
    """How the contexts are written as a chat; None where they are texts."""
    if not params.chat:
        return None
    own, kwargs = params.expert_chat or ExpertChatParams(), template_options(params)
    if own.chat_template_file is not None:
        raise ConfigError(
            f"context.expert_chat.chat_template_file {own.chat_template_file!r} was not read: "
            "settings files are read by `load_params`"
        )
    expert_kwargs = kwargs
    if own.chat_template_kwargs is not None:
        changed = {"chat_template_kwargs": own.chat_template_kwargs}
        expert_kwargs = template_options(params.model_copy(update=changed))
    return {
        "student": ChatForm(tokenizer, "student", params.chat_date, kwargs),
        "expert": ChatForm(tokenizer, "expert", params.chat_date, expert_kwargs, own.chat_template),
    }


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
