"""The campaign's context as a chat template, so that other programs ask as the campaign did.

A policy is trained and evaluated on one form of context. Whoever loads the exported folder gets
that form from the tokenizer's `apply_chat_template`, without knowing of the campaign's settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from distil_core.config.models import ContextParams, Template, TemplateMessage
from distil_core.feedback.chat_template import render_chat
from distil_core.feedback.compose import TemplatePart, as_messages, template_parts
from distil_core.feedback.contexts import ContextRenderer
from distil_core.policy.tokenizer import encode_context
from distil_core.problems.messages import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ONE_MESSAGE = (
    "{%- if messages | length != 1 or messages[0]['role'] != 'user' -%}"
    "{{- raise_exception('this policy was trained on one message of a user alone: put all that it "
    "shall read into that message') -}}"
    "{%- endif -%}"
)
_WRAPPED = (
    "{%- set distil = namespace(turns=[]) -%}"
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'user' -%}"
    "{%- set distil.turns = distil.turns + [{'role': 'user', 'content': CONTENT}] -%}"
    "{%- else -%}{%- set distil.turns = distil.turns + [message] -%}{%- endif -%}"
    "{%- endfor -%}"
    "{%- set messages = distil.turns -%}"
)
# The turns of a template stand before and after what they were trained around: the earlier turns
# of a conversation, and its last message, a user's.
_SURROUNDED = (
    "{%- if messages[-1]['role'] != 'user' -%}"
    "{{- raise_exception('the last message must be of a user, whom this policy answers') -}}"
    "{%- endif -%}"
    "{%- set distil = namespace(earlier=messages[:-1], system='') -%}"
    "{%- if messages[0]['role'] == 'system' -%}"
    "{%- set distil.system = messages[0]['content'] -%}"
    "{%- set distil.earlier = messages[1:-1] -%}"
    "{%- endif -%}"
    "{%- set message = messages[-1] -%}"
    "{%- set messages = SYSTEM + [BEFORE] + distil.earlier + [ASKED] + [AFTER] -%}"
)
_ONE_SYSTEM = (
    "{%- if messages[0]['role'] == 'system' -%}"
    "{{- raise_exception('this policy was trained with a system turn of its own: leave yours out') "
    "-}}{%- endif -%}"
)


def campaign_chat_template(
    params: ContextParams, tokenizer: PreTrainedTokenizerBase, conversations: bool = False
) -> str:
    """A Jinja template that writes the student's context for a user's message.

    With context.chat it is the model's own template, around what student_template adds to the
    problem; other turns stay possible. Without, it takes one message of a user and nothing else,
    as nothing else was trained. conversations: whether the campaign's prompts are such, of which
    only the last message is what student_template is about.
    """
    renderer = ContextRenderer(params, tokenizer)
    if params.chat and not renderer.adds_first_token:
        own = str(tokenizer.get_chat_template())
        template = params.student_template
        if conversations and template != "{prompt}":
            template = tuple(as_messages(template))
        return _defaults(params.chat_template_kwargs) + _around(template) + own
    # A prompt of one character, which stands apart from the template's own text.
    context = renderer.student("x", "of the template")
    pieces = [
        _literal(segment.text) if segment.is_template else "messages[0]['content']"
        for segment in context.segments
    ]
    return _ONE_MESSAGE + "{{- " + " ~ ".join(pieces) + " -}}"


def _around(template: Template) -> str:
    """What makes the campaign's messages of those that are given; '' where they are the same."""
    if isinstance(template, str):
        parts = template_parts(template)
        if parts == [("", "prompt")]:
            return ""
        return _WRAPPED.replace("CONTENT", _joined(parts))
    place = next(at for at, one in enumerate(template) if "{prompt}" in one.content)
    has_system = template[0].role == "system"
    before = [_message(one) for one in template[has_system:place]]
    after = [_message(one) for one in template[place + 1 :]]
    system = "([{'role': 'system', 'content': distil.system}] if distil.system else [])"
    check = ""
    if has_system:
        parts = template_parts(template[0].content)
        if any(field for _, field in parts):
            # Without a system turn to put there, it has no blanks at its ends either.
            text = f"({_joined(parts)})"
            content = f"{text} if distil.system else {text} | trim"
            system = f"([{{'role': 'system', 'content': {content}}}] if {text} | trim else [])"
        else:
            check, system = _ONE_SYSTEM, f"[{_message(template[0])}]"
    text = _SURROUNDED.replace("SYSTEM", system).replace("[BEFORE]", f"[{', '.join(before)}]")
    text = text.replace("[ASKED]", f"[{_message(template[place])}]")
    return check + text.replace("[AFTER]", f"[{', '.join(after)}]")


def _message(message: TemplateMessage) -> str:
    content = _joined(template_parts(message.content))
    return f"{{'role': '{message.role}', 'content': {content}}}"


def _joined(parts: Sequence[TemplatePart]) -> str:
    """The content of a message as an expression in Jinja."""
    variables = {"prompt": "message['content']", "system": "distil.system"}
    pieces = [
        piece
        for literal, field in parts
        for piece in (_literal(literal), *([variables[field]] if field else []))
    ]
    return " ~ ".join(pieces)


def _defaults(kwargs: Mapping[str, Any]) -> str:
    """The campaign's options of the template, which whoever uses it may still set otherwise."""
    return "".join(
        f"{{%- if {name} is not defined -%}}{{%- set {name} = {_value(value)} -%}}{{%- endif -%}}"
        for name, value in kwargs.items()
    )


def _value(value: Any) -> str:
    """A value of JSON as Jinja writes it."""
    if isinstance(value, str):
        return _literal(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_literal(key)}: {_value(one)}' for key, one in value.items())}}}"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    return repr(value)


def count_same_tokens(
    exported: PreTrainedTokenizerBase,
    params: ContextParams,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
) -> int:
    """For how many prompts the exported tokenizer's template gives the very tokens of the
    campaign's context. A tokenizer may join characters across the border of template and problem,
    which the campaign encodes apart."""
    renderer = ContextRenderer(params, tokenizer)
    same = 0
    for prompt in prompts:
        turns = (
            [{"role": "user", "content": prompt}]
            if isinstance(prompt, str)
            else [dict(message._asdict()) for message in prompt]
        )
        text = render_chat(exported, turns, True, params.chat_date)
        found = exported.encode(text, add_special_tokens=False)
        same += found == encode_context(
            tokenizer, renderer.student(prompt, "of the template").segments
        )
    return same


def _literal(text: str) -> str:
    """The text as a string in Jinja, which reads escapes as Python does."""
    return '"' + text.encode("unicode_escape").decode("ascii").replace('"', '\\"') + '"'
