"""A conversation with fields in it, as a chat template writes it.

Content passes through the chat template as placeholders, so that it is neither read as Jinja nor
trimmed, and can be encoded as content afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from distil_core.errors import ConfigError
from distil_core.feedback.chat_template import ADVICE, MARK, render_chat
from distil_core.feedback.compose import TemplatePart

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PLACEHOLDER = re.compile("\ue000([0-9]+)\ue001")


@dataclass(frozen=True)
class Turn:
    """One message: its role, and its literal texts each with the field that follows."""

    role: str
    parts: Sequence[TemplatePart]


@dataclass(frozen=True)
class ChatForm:
    """A chat template with its options. chat_template: in place of the tokenizer's own. whose: the
    context that it writes, for messages."""

    tokenizer: PreTrainedTokenizerBase
    whose: str
    today: date
    kwargs: Mapping[str, Any]
    chat_template: str | None = None

    def parts(self, turns: Sequence[Turn]) -> list[TemplatePart]:
        """All that is written up to the response, as literal texts each with the field that
        follows. Raises `ConfigError` where the template refuses the turns, or does not repeat what
        they say."""
        fields = [field for turn in turns for _, field in turn.parts if field is not None]
        rendered = self._rendered(turns, add_generation_prompt=True)
        pieces = _PLACEHOLDER.split(rendered)
        numbers = [int(number) for number in pieces[1::2]]
        missing = [
            turn.role
            for turn in turns
            if any(literal.strip() not in rendered for literal, _ in turn.parts)
        ]
        if sorted(numbers) != list(range(len(fields))) or (len(turns) > 1 and missing):
            what = "a user's message" if len(turns) == 1 else f"these turns ({_roles(turns)})"
            raise ConfigError(
                f"the tokenizer's chat template does not repeat {what} as it is, which "
                f"{self.whose} has: {ADVICE}"
            )
        ordered = [fields[number] for number in numbers]
        return list(zip(pieces[::2], [*ordered, None], strict=True))

    def assistant_prefix(self, turns: Sequence[Turn]) -> str:
        """What the template writes after the last turn, for the response to follow; '' where the
        response follows that turn itself.

        Raises `ConfigError` where it should write something there and does not: the model would
        have to open its own turn, which it never did in training.
        """
        asked = self._rendered(turns, add_generation_prompt=True)
        plain = self._rendered(turns, add_generation_prompt=False)
        if asked == plain:
            self._require_no_opening()
        return _beyond(plain, asked)

    def _require_no_opening(self) -> None:
        # Without a system turn, which some templates write into the last of the user's.
        asking = Turn("user", [("?", None)])
        try:
            plain = self._rendered([asking], False)
            answered = self._rendered([asking, Turn("assistant", [(MARK, None)])], False)
        except ConfigError:
            # It takes no answers, so that it does not tell what comes before one.
            return
        before, found, _ = answered.partition(MARK)
        opening = _beyond(plain, before)
        if found and opening.strip():
            raise ConfigError(
                "the tokenizer's chat template has no generation prompt: it writes "
                f"{opening!r} before an assistant's answer, and nothing where one is asked for "
                f"(add_generation_prompt has no effect): {ADVICE}"
            )

    def _rendered(self, turns: Sequence[Turn], add_generation_prompt: bool) -> str:
        number, messages = 0, []
        for turn in turns:
            content = ""
            for literal, field in turn.parts:
                content += literal
                if field is not None:
                    content += f"\ue000{number}\ue001"
                    number += 1
            messages.append({"role": turn.role, "content": content})
        return render_chat(
            self.tokenizer,
            messages,
            add_generation_prompt,
            self.today,
            self.kwargs,
            self.chat_template,
        )


def require_same_prefix(student: str, expert: str) -> None:
    """Raise `ConfigError` unless both contexts open the response alike: its tokens follow both."""
    if student != expert:
        raise ConfigError(
            f"the response would follow {student!r} in the student's context and {expert!r} in the "
            "expert's: its tokens must follow the same text in both. Give both the same "
            "context.chat_template_kwargs, and the expert a chat template (context.expert_chat) "
            "that opens the assistant's turn as the student's does"
        )


def _beyond(shorter: str, text: str) -> str:
    """The text without what both have in common from the beginning."""
    same = 0
    while same < min(len(shorter), len(text)) and shorter[same] == text[same]:
        same += 1
    return text[same:]


def _roles(turns: Sequence[Turn]) -> str:
    return ", ".join(turn.role for turn in turns)
