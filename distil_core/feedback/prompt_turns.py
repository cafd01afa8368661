"""The turns of a template around a problem's prompt, which may itself be a conversation.

A conversation's last message is what {prompt} stands for. Its earlier turns come right before the
turn that holds {prompt}, so that worked examples of a template stay in front of them.
"""

from collections.abc import Sequence

from distil_core.config.models import Template
from distil_core.errors import ConfigError
from distil_core.feedback.chat_parts import Turn
from distil_core.feedback.compose import SYSTEM, TemplatePart, as_messages, template_parts
from distil_core.feedback.thinking import without_thinking
from distil_core.problems.messages import Message, Prompt, transcript

HISTORY = "history"
"""What context.strip_thinking calls the assistant's earlier turns."""

TEXT = ("user",)
"""The roles of a prompt that is a text."""


def roles_of(prompt: Prompt) -> tuple[str, ...]:
    """Whose messages a prompt has, in order; those of a text are one user's."""
    return TEXT if isinstance(prompt, str) else tuple(message.role for message in prompt)


def prompt_values(prompt: Prompt, strip_history: bool) -> dict[str, str]:
    """The texts of a prompt, by the names of fields. strip_history: leave thinking out of the
    assistant's turns."""
    if isinstance(prompt, str):
        return {"prompt": prompt}
    values = {"prompt": prompt[-1].content}
    for place, message in enumerate(prompt[:-1]):
        text = message.content
        if strip_history and message.role == "assistant":
            text = without_thinking(text)
        values[_field(place, message.role)] = text
    return values


def shown_prompt(prompt: Prompt, last: str) -> str:
    """The prompt as one text, for experts that read text alone. last: what became of its last
    message."""
    if isinstance(prompt, str):
        return last
    return transcript([*prompt[:-1], Message("user", last)])


def turns_around(template: Template, roles: Sequence[str], name: str) -> list[Turn]:
    """The turns of a context whose prompt has messages with these roles. name: of the template, for
    the `ConfigError` where both have a system turn, and the template's has no place for the
    other."""
    has_system = roles[0] == SYSTEM
    earlier = [
        Turn(role, [("", _field(place, role))])
        for place, role in enumerate(roles[:-1])
        if role != SYSTEM
    ]
    turns: list[Turn] = []
    for message in as_messages(template):
        parts = template_parts(message.content)
        if message.role == SYSTEM:
            parts = parts if has_system else _without_system(parts)
            if not parts:
                continue
        elif any(field == "prompt" for _, field in parts):
            turns += earlier
            earlier = []
        turns.append(Turn(message.role, parts))
    if has_system and turns[0].role != SYSTEM:
        return [Turn(SYSTEM, [("", SYSTEM)]), *turns]
    if has_system and all(field != SYSTEM for _, field in turns[0].parts):
        raise ConfigError(
            f"{name} has a system turn, and so has the prompt of a problem: write {{system}} into "
            "the template's where the problem's is to stand, or leave one of them out"
        )
    return turns


def _field(place: int, role: str) -> str:
    # No template can name such a field.
    return SYSTEM if role == SYSTEM else f"{HISTORY}.{place}"


def _without_system(parts: Sequence[TemplatePart]) -> list[TemplatePart]:
    """The system's turn where a problem has none: without that field and blanks at the ends; empty
    where nothing is left."""
    kept: list[TemplatePart] = []
    before = ""
    for literal, field in parts:
        before += literal
        if field is not None and field != SYSTEM:
            kept.append((before if kept else before.lstrip(), field))
            before = ""
    rest = before.rstrip() if kept else before.strip()
    return [*kept, *([(rest, None)] if rest else [])]
