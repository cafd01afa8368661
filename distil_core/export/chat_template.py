"""The campaign's context as a chat template, so that other programs ask as the campaign did.

A policy is trained and evaluated on one form of context. Whoever loads the exported folder gets
that form from the tokenizer's `apply_chat_template`, without knowing of the campaign's settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from distil_core.config.models import ContextParams
from distil_core.feedback.chat_template import render_chat
from distil_core.feedback.compose import template_parts
from distil_core.feedback.contexts import ContextRenderer
from distil_core.policy.tokenizer import encode_context

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


def campaign_chat_template(params: ContextParams, tokenizer: PreTrainedTokenizerBase) -> str:
    """A Jinja template that writes the student's context for a user's message.

    With context.chat it is the model's own template, around what student_template adds to the
    problem; other turns stay possible. Without, it takes one message of a user and nothing else,
    as nothing else was trained.
    """
    if params.chat and params.bos != "always":
        own = str(tokenizer.get_chat_template())
        parts = template_parts(params.student_template)
        if parts == [("", "prompt")]:
            return own
        pieces = [
            piece
            for literal, field in parts
            for piece in (_literal(literal), *(["message['content']"] if field else []))
        ]
        return _WRAPPED.replace("CONTENT", " ~ ".join(pieces)) + own
    # A prompt of one character, which stands apart from the template's own text.
    context = ContextRenderer(params, tokenizer).student("x", "of the template")
    pieces = [
        _literal(segment.text) if segment.is_template else "messages[0]['content']"
        for segment in context.segments
    ]
    return _ONE_MESSAGE + "{{- " + " ~ ".join(pieces) + " -}}"


def count_same_tokens(
    exported: PreTrainedTokenizerBase,
    params: ContextParams,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
) -> int:
    """For how many prompts the exported tokenizer's template gives the very tokens of the
    campaign's context. A tokenizer may join characters across the border of template and problem,
    which the campaign encodes apart."""
    renderer = ContextRenderer(params, tokenizer)
    same = 0
    for prompt in prompts:
        turns = [{"role": "user", "content": prompt}]
        text = render_chat(exported, turns, True, params.chat_date)
        found = exported.encode(text, add_special_tokens=False)
        same += found == encode_context(tokenizer, renderer.student(prompt, prompt).segments)
    return same


def _literal(text: str) -> str:
    """The text as a string in Jinja, which reads escapes as Python does."""
    return '"' + text.encode("unicode_escape").decode("ascii").replace('"', '\\"') + '"'
