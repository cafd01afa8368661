"""An expert with other tokens than the student: what it says at the states where both have a token
boundary, in the student's tokens.

The expert reads the response's text in its own tokens. Where one of the student's states ends at
the same character as one of its own, it has a distribution over its next token there. Each of these
is a text, and counts for the token that the student begins this text with. That is taken as certain
unless the student has a longer token which the expert spells by going on from this one. What is not
certain, and what the expert does not list, is the tail's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from distil_core.errors import ExpertError
from distil_core.experts._served_answers import Distribution, stored
from distil_core.experts._served_options import Options
from distil_core.experts._served_server import Prompt
from distil_core.experts.base import ExpertAnswer, ExpertQuery, ExpertSetting
from distil_core.feedback.chat_parts import ChatForm, Turn
from distil_core.feedback.chat_template import response_end_id
from distil_core.feedback.compose import TemplatePart, render, template_parts
from distil_core.policy.conventions import beginning, end_token_ids
from distil_core.policy.known_tokens import num_known_tokens
from distil_core.policy.tokenizer import decode, encode_content, encode_context

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

_BROKEN = "\ufffd"
"""What a tokenizer writes for bytes that are no character yet."""
_ANCHOR = "\n"
"""Stands before tokens that are decoded, so that none is the first of a text: some tokenizers leave
out the space there."""
_CHAT_DATE = date(2026, 1, 1)


class TokenTexts:
    """The tokens of a text within another one, and the texts of tokens there."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._tokenizer = tokenizer
        anchor = encode_content(tokenizer, _ANCHOR, begins=False)
        self._anchor = anchor if decode(tokenizer, anchor) == _ANCHOR else []
        added = tokenizer.added_tokens_decoder.items()
        marks = {token_id for token_id, token in added if token.special}
        self._no_text = frozenset(marks | {*tokenizer.all_special_ids, *end_token_ids(tokenizer)})
        self._texts: dict[int, str | None] = {}

    def tokens(self, text: str) -> list[int]:
        """As content; a text that looks like a special token is none."""
        return encode_content(self._tokenizer, text, begins=False)

    def text(self, token_ids: Sequence[int]) -> str | None:
        """None where the tokens end within a character."""
        text = decode(self._tokenizer, [*self._anchor, *token_ids, *self._anchor])
        if self._anchor:
            text = text.removeprefix(_ANCHOR).removesuffix(_ANCHOR)
        return None if text.endswith(_BROKEN) else text

    def is_text(self, token_ids: Sequence[int]) -> bool:
        """Whether none of them is a mark of the model's own."""
        return self._no_text.isdisjoint(token_ids)

    def text_of(self, token_id: int) -> str | None:
        """None for a part of a character, and for a token that is no text."""
        if token_id not in self._texts:
            text = None if token_id in self._no_text else self.text([token_id])
            self._texts[token_id] = text if text and _BROKEN not in text else None
        return self._texts[token_id]

    def places(self, token_ids: Sequence[int], text: str) -> list[int | None]:
        """Where in the text each token begins, and where the last one ends; None within a
        character, and from where on the tokens spell another text."""
        found: list[int | None] = [0]
        start = place = 0
        for count in range(1, len(token_ids) + 1):
            piece = self.text(token_ids[start:count])
            if piece is None:
                found.append(None)
                continue
            if not text.startswith(piece, place):
                return [*found, *[None] * (len(token_ids) + 1 - count)]
            place += len(piece)
            start = count
            found.append(place)
        return found


@dataclass(frozen=True)
class _Meaning:
    """What one of the expert's tokens says about the student's next one. token: which it is,
    unless it is one of `longer`."""

    token: int
    longer: frozenset[int] = frozenset()


class TokenMap:
    """From the expert's next token to the student's."""

    def __init__(self, student: PreTrainedTokenizerBase, expert: PreTrainedTokenizerBase):
        self._student = student
        self._end = response_end_id(student)
        self._ends = frozenset(end_token_ids(expert))
        self.of_student = TokenTexts(student)
        self.of_expert = TokenTexts(expert)
        self._known: dict[int, _Meaning | None] = {}

    def meaning(self, token_id: int) -> _Meaning | None:
        """None for a token without a text, or one that the student cannot write."""
        if token_id not in self._known:
            self._known[token_id] = self._meaning(token_id)
        return self._known[token_id]

    def mapped(self, state: Distribution) -> Distribution | None:
        """The distribution over the student's next token. Tokens are left to the tail, with all
        that is certain of them, where more of the mass may be theirs. None where nothing is
        certain."""
        masses: dict[int, float] = {}
        unsure: set[int] = set()
        for token_id, mass in zip(state.ids.tolist(), np.exp(state.logprobs), strict=True):
            meaning = self.meaning(token_id)
            if meaning is None:
                continue
            if meaning.longer:
                unsure |= {meaning.token, *meaning.longer}
            else:
                masses[meaning.token] = masses.get(meaning.token, 0.0) + float(mass)
        sure = {token: mass for token, mass in masses.items() if token not in unsure and mass > 0.0}
        if not sure:
            return None
        ranked = sorted(sure.items(), key=lambda entry: (-entry[1], entry[0]))
        total = math.fsum(sure.values())
        return Distribution(
            np.array([token for token, _ in ranked], np.int32),
            np.log(np.array([mass for _, mass in ranked])) - max(0.0, math.log(total)),
            max(0.0, 1.0 - total),
        )

    def sampled(self, answers: Sequence[Sequence[int]]) -> Distribution | None:
        """Of the student's tokens that these answers of the expert begin with; None where none of
        them can be used."""
        firsts = [token for token in map(self._first_token, answers) if token is not None]
        if not firsts:
            return None
        ids, counts = np.unique(np.array(firsts, np.int32), return_counts=True)
        order = np.lexsort((ids, -counts))
        return Distribution(ids[order], np.log(counts[order] / len(firsts)), 0.0)

    def _first_token(self, answer: Sequence[int]) -> int | None:
        ended = bool(answer) and answer[-1] in self._ends
        said = answer[:-1] if ended else answer
        text = self.of_expert.text(said)
        if text is None or _BROKEN in text or not self.of_expert.is_text(said):
            return None
        written = self.of_student.tokens(text) if text else []
        if written and self.of_student.text(written) != text:
            return None
        # Where the text was cut, its last token may be the beginning of a longer one.
        certain = [*written, self._end] if ended else written[:-1]
        return certain[0] if certain else None

    def _meaning(self, token_id: int) -> _Meaning | None:
        if token_id in self._ends:
            return _Meaning(self._end)
        text = self.of_expert.text_of(token_id)
        if text is None:
            return None
        written = self.of_student.tokens(text)
        if not written or self.of_student.text(written) != text:
            return None
        return _Meaning(written[0], self._longer.get(token_id, frozenset()))

    @cached_property
    def _longer(self) -> Mapping[int, frozenset[int]]:
        """For each of the expert's tokens, the student's that it spells with this one and more."""
        found: dict[int, set[int]] = {}
        for token_id in sorted(set(self._student.get_vocab().values())):
            text = self.of_student.text_of(token_id)
            if text is None:
                continue
            spelled = self.of_expert.tokens(text)
            if len(spelled) > 1:
                found.setdefault(spelled[0], set()).add(token_id)
        return {first: frozenset(tokens) for first, tokens in found.items()}


class OtherTokens:
    """The expert reads a template of its own, and the response's text."""

    def __init__(
        self,
        options: Options,
        student: PreTrainedTokenizerBase,
        expert: PreTrainedTokenizerBase,
        folder: Path,
        setting: ExpertSetting,
    ):
        self.tokenizer = expert
        self.vocabulary_size = num_known_tokens(folder) or len(expert)
        self.counts = dict.fromkeys(
            (
                *("mapped_states", "unmet_states", "uncertain_states"),
                *("sampled_states", "silent_rollouts"),
            ),
            0,
        )
        self._map = TokenMap(student, expert)
        self._parts = _context_parts(options, expert)
        self._end = response_end_id(expert)
        self._ends = frozenset(end_token_ids(student))
        self._setting = setting

    def prompt(self, query: ExpertQuery) -> Prompt:
        """The context and the response in the expert's tokens, with its end token, so that it is
        asked about the state after the last too."""
        context_ids = encode_context(self.tokenizer, render(self._parts, query.values))
        if not context_ids:
            raise ExpertError(
                "the context of a rollout is empty in tabulate.expert.options.template: write "
                "something there that is more than fields without content"
            )
        return Prompt([*context_ids, *self._response(query), self._end], len(context_ids))

    def labels(
        self, query: ExpertQuery, states: Sequence[Distribution]
    ) -> list[Distribution | None]:
        """The distributions where boundaries meet."""
        text = self._text(query)
        states_at: dict[int, Distribution] = {}
        for place, state in zip(
            self._map.of_expert.places(self._response(query), text), states, strict=True
        ):
            if place is not None:
                states_at.setdefault(place, state)
        found: list[Distribution | None] = []
        for place in self._places(query):
            met = None if place is None else states_at.get(place)
            label = None if met is None else self._map.mapped(met)
            if label is not None:
                self.counts["mapped_states"] += 1
            else:
                self.counts["unmet_states" if met is None else "uncertain_states"] += 1
            found.append(label)
        return found

    def prefixes(
        self, query: ExpertQuery, labels: Sequence[Distribution | None]
    ) -> dict[int, list[int]]:
        """What the expert goes on from at each state without label, by position: its context and
        what the student wrote so far, where that is whole characters."""
        prompt, text = self.prompt(query), self._text(query)
        context_ids = prompt.token_ids[: prompt.start]
        return {
            position: [*context_ids, *self._map.of_expert.tokens(text[:place])]
            for position, place in enumerate(self._places(query))
            if labels[position] is None and place is not None
        }

    def sampled(self, answers: Sequence[Sequence[int]]) -> Distribution | None:
        """The label of a state at which these answers were sampled."""
        label = self._map.sampled(answers)
        self.counts["sampled_states"] += label is not None
        return label

    def answer(self, query: ExpertQuery, labels: Sequence[Distribution | None]) -> ExpertAnswer:
        """Without context ids, as the expert read none of ours."""
        self.counts["silent_rollouts"] += not any(labels)
        return ExpertAnswer([], stored(labels, self._setting.top_k, self._setting.top_p))

    def _places(self, query: ExpertQuery) -> list[int | None]:
        """Where each of the student's tokens begins."""
        ids = query.response_ids
        return self._map.of_student.places(ids, self._text(query))[: len(ids)]

    def _response(self, query: ExpertQuery) -> list[int]:
        return self._map.of_expert.tokens(self._text(query))

    def _text(self, query: ExpertQuery) -> str:
        """Of the response, without its end token and what is no whole character at its end."""
        ids = list(query.response_ids)
        if ids and ids[-1] in self._ends:
            ids = ids[:-1]
        text = self._map.of_student.text(ids)
        while text is None:
            ids = ids[:-1]
            text = self._map.of_student.text(ids)
        return text


def _context_parts(options: Options, expert: PreTrainedTokenizerBase) -> list[TemplatePart]:
    """The expert's template, with the tokens that its model begins with."""
    parts = template_parts(options.template or "")
    if options.chat:
        form = ChatForm(expert, "the expert", _CHAT_DATE, options.chat_template_kwargs)
        return form.parts([Turn("user", parts)])
    first = beginning(expert)
    return [(first, None), *parts] if first else parts
