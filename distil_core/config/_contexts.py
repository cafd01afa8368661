"""Settings of contexts: how a problem and its feedback become what student and expert read."""

from datetime import date
from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from distil_core.config._base import Settings, added
from distil_core.config._environment import EnvironmentParams

_SET_BY_US = ("messages", "add_generation_prompt", "continue_final_message", "tools", "documents")
"""Variables of a chat template that are no options: contexts have no tools and no documents."""


class ShorteningRule(Settings):
    """A field whose content may be shortened where a context is too long."""

    field: str
    """The field of a template whose content is shortened: prompt, attempt, or a kind of
    feedback."""
    keep: Literal["start", "end", "both"]
    """Which part of the content stays."""


_PARTS_OF_CORRECTION = {"expression", "value", "stated"}


class WordingParams(Settings):
    """How what tools say reads in the expert's context. What a verifier stores stays as it is, so
    that other words need no other verdicts."""

    keep: Literal["all", "corrections"] = "all"
    """Which lines the expert reads. 'corrections' keeps those that name a checked expression with
    the value that it really has (docs/feedback-tools.md#corrections): where there is none, the
    tools have said nothing."""
    correction: str | None = None
    """The words of a correction, with the fields {expression}, {value} and {stated}, such as
    'Calculator: {expression} = {value}'; null leaves the tool's own."""
    separator: str = "\n"
    """Stands between lines; a blank or '; ' makes one line of them."""
    kinds: tuple[str, ...] = ("execution_trace", "tool_output")
    """The kinds of feedback that this is about; others, such as a peer's solution, stay as they
    are."""
    verdicts: dict[Literal["correct", "wrong", "malformed", "truncated"], str] = Field(
        default_factory=dict
    )
    """Other words for verdicts, for the field {verdict}."""

    @model_validator(mode="after")
    def _correction_has_known_fields(self) -> "WordingParams":
        try:
            pieces = list(Formatter().parse(self.correction or ""))
        except ValueError as error:
            raise ValueError(f"correction: {error} (write a literal brace twice)") from error
        fields = {field for _, field, _, _ in pieces if field is not None}
        if not fields <= _PARTS_OF_CORRECTION or any(form or how for _, _, form, how in pieces):
            raise ValueError(
                "correction: expected the fields {expression}, {value} and {stated} alone, found "
                f"{self.correction!r}"
            )
        return self


class TemplateMessage(Settings):
    """One turn of a template that is a list of messages."""

    role: Literal["system", "user", "assistant", "tool"]
    """Whose turn it is; only the first may be the system's, and the last is the user's. A tool's
    answers, in worked examples, are written as those of an environment are."""
    content: str
    """What it says, with fields in braces. {system} in the system's turn is the system turn of a
    problem whose prompt has one."""


Template = str | Annotated[tuple[TemplateMessage, ...], Field(min_length=1)]
"""A text, or the turns of a conversation."""


class ExpertChatParams(Settings):
    """How the expert's messages are written, where that is not as the student's are."""

    chat_template: str | None = None
    """A chat template (Jinja) in place of the tokenizer's own; null for that."""
    chat_template_file: str | None = None
    """The same in a file, from the workspace's root. Its text is frozen with the settings as
    chat_template."""
    chat_template_kwargs: dict[str, Any] | None = None
    """In place of context.chat_template_kwargs; null for the same ones."""

    @field_validator("chat_template_kwargs")
    @classmethod
    def _may_be_set(cls, kwargs: dict[str, Any] | None) -> dict[str, Any] | None:
        return kwargs and _allowed(kwargs)

    @model_validator(mode="after")
    def _one_template(self) -> "ExpertChatParams":
        if self.chat_template is not None and self.chat_template_file is not None:
            raise ValueError("expected one of chat_template and chat_template_file, found both")
        return self


class ContextParams(Settings):
    """How a problem and its feedback become text. docs/feedback-tools.md lists the fields in
    braces."""

    student_template: Template
    """What the student reads before it answers, with the field {prompt}: a text, or with chat also
    a list of messages."""
    expert_template: Template
    """What the expert reads before it scores the same answer: {prompt}, and fields of the feedback
    such as {attempt} and {execution_trace}. A text, or with chat also a list of messages."""
    max_context_tokens: PositiveInt
    """The longest context, in tokens. A longer one is shortened by the rules of `shorten`, or is an
    error."""
    chat: bool = False
    """Whether the templates are messages in the tokenizer's own chat template; a text is one
    message of a user."""
    shorten: tuple[ShorteningRule, ...] = ()
    """What to shorten where a context exceeds max_context_tokens, in this order, each field to
    nothing before the next. With none, such a context is an error."""
    shortening_marker: str = "[...]"
    """Stands where content was left out."""
    bos: Literal["auto", "never", "always"] = "auto"
    """Whether contexts begin with the model's first token where the template does not write it.
    'auto': as the checkpoint's own files say, and with chat as its chat template does, but always
    for models of the Gemma family. 'never' adds none, 'always' does."""
    chat_date: date = date(2026, 1, 1)
    """What a chat template is told that asks for today's date, so that the same settings give the
    same tokens on another day."""
    wording: WordingParams = added(WordingParams())
    """How what tools say reads in the expert's context."""
    chat_template_kwargs: dict[str, Any] = added({})
    """Options of the chat template, such as enable_thinking: false. Each must be one that it
    reads."""
    expert_chat: ExpertChatParams | None = added(None)
    """How the expert's messages are written; null for as the student's. Both must lead to the same
    text right before the response."""
    strip_thinking: tuple[str, ...] = added(())
    """Fields from whose content `<think>..</think>` is left out before the expert reads it, such as
    peer_solution and attempt; `history` for the assistant's earlier turns in a prompt of several
    messages, which student and expert read."""
    environment: EnvironmentParams | None = added(None)
    """What answers the policy between its turns; null where a rollout is a single response."""

    @field_validator("chat_template_kwargs")
    @classmethod
    def _may_be_set(cls, kwargs: dict[str, Any]) -> dict[str, Any]:
        return _allowed(kwargs)

    @model_validator(mode="after")
    def _each_field_once(self) -> "ContextParams":
        for setting, fields in (
            ("shorten", [rule.field for rule in self.shorten]),
            ("strip_thinking", list(self.strip_thinking)),
        ):
            if len(set(fields)) < len(fields):
                raise ValueError(f"{setting} names a field twice: {', '.join(fields)}")
        return self

    @model_validator(mode="after")
    def _turns_are_a_chat(self) -> "ContextParams":
        for name in ("student_template", "expert_template"):
            template: Template = getattr(self, name)
            if not isinstance(template, str):
                _require_turns(name, [message.role for message in template])
                if not self.chat:
                    raise ValueError(
                        f"{name} is a list of messages, which only a chat template can write: set "
                        "chat: true, or write the turns into a text"
                    )
        for name in ("chat_template_kwargs", "expert_chat"):
            if getattr(self, name) and not self.chat:
                raise ValueError(
                    f"{name} is about a chat template: set chat: true, or leave it out"
                )
        return self


def _require_turns(name: str, roles: list[str]) -> None:
    shown = ", ".join(roles)
    if "system" in roles[1:]:
        raise ValueError(f"{name}: only the first message may be the system's, found {shown}")
    if roles[-1] != "user":
        raise ValueError(
            f"{name}: the last message must be the user's, which the response answers, found "
            f"{shown}"
        )


def _allowed(kwargs: dict[str, Any]) -> dict[str, Any]:
    if refused := sorted(kwargs.keys() & set(_SET_BY_US)):
        raise ValueError(
            f"{', '.join(refused)} cannot be set here: messages are the templates', tools and "
            "documents are always off"
        )
    return kwargs
