"""The tokens between two turns of a policy: an environment's answer, and what a chat template
writes around it.

They follow the policy's own tokens, which stay as they were sampled: nothing before is rendered or
encoded again. What the environment says is content, so that it can neither end a turn nor open one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distil_core.config.models import ContextParams, EnvironmentParams
from distil_core.errors import ConfigError
from distil_core.feedback.chat_parts import ChatForm, Turn
from distil_core.feedback.chat_template import response_end_id
from distil_core.feedback.compose import TemplatePart, template_parts
from distil_core.feedback.declared_tools import template_options
from distil_core.feedback.prompt_turns import TEXT, turns_around
from distil_core.policy.tokenizer import encode_content, encode_template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_OBSERVATION, _ACTION = "observation", "action"


@dataclass(frozen=True)
class Observation:
    """text: what the policy reads of the environment's answer, the middle of a long one left out.
    token_ids: all that stands between its two turns."""

    text: str
    token_ids: list[int]


class ObservationWriter:
    """Writes what an environment answers. Raises `ConfigError` where the chat template cannot write
    it after an assistant's turn, or context.environment.max_observation_tokens has no room for
    anything but the template's own tokens."""

    def __init__(self, params: ContextParams, tokenizer: PreTrainedTokenizerBase):
        assert params.environment is not None, "single responses are not answered"
        self._params: EnvironmentParams = params.environment
        self._marker = params.shortening_marker
        self._tokenizer = tokenizer
        parts = template_parts(self._params.observation_template)
        self._parts = _chat_parts(params, tokenizer, parts) if params.chat else parts
        if len(self._ids("")) >= self._params.max_observation_tokens:
            raise ConfigError(
                f"context.environment.max_observation_tokens is "
                f"{self._params.max_observation_tokens}, of which the template's own text around "
                f"an observation takes {len(self._ids(''))}: raise it"
            )

    def write(self, text: str) -> Observation:
        """The environment's answer. Where it is too long its middle is left out, and the marker
        stands there."""
        limit = self._params.max_observation_tokens
        token_ids = self._ids(text)
        if len(token_ids) <= limit:
            return Observation(text, token_ids)
        fitting, too_long = 0, len(text)
        while too_long - fitting > 1:
            kept = (fitting + too_long) // 2
            if len(self._ids(self._without_middle(text, kept))) <= limit:
                fitting = kept
            else:
                too_long = kept
        shown = self._without_middle(text, fitting) if fitting else ""
        return Observation(shown, self._ids(shown))

    def _without_middle(self, text: str, kept: int) -> str:
        return text[: kept - kept // 2] + self._marker + text[len(text) - kept // 2 :]

    def _ids(self, text: str) -> list[int]:
        token_ids: list[int] = []
        for literal, field in self._parts:
            if literal:
                token_ids += encode_template(self._tokenizer, literal, begins=False)
            if field is not None:
                token_ids += encode_content(self._tokenizer, text, begins=False)
        return token_ids


def _chat_parts(
    params: ContextParams, tokenizer: PreTrainedTokenizerBase, message: Sequence[TemplatePart]
) -> list[TemplatePart]:
    """What the chat template writes after the end token of an assistant's turn, for the next one to
    follow."""
    assert params.environment is not None, "single responses are not answered"
    role = params.environment.role
    form = ChatForm(tokenizer, "student", params.chat_date, template_options(params))
    turns = [
        *turns_around(params.student_template, TEXT, "context.student_template"),
        Turn("assistant", [("", _ACTION)]),
        Turn(role, message),
    ]
    try:
        parts = form.parts(turns)
    except ConfigError as error:
        raise ConfigError(
            f"the chat template cannot write a message of role {role!r} after the assistant's "
            f"({error}); context.environment.role: user is another that it may take"
        ) from error
    after = [field for _, field in parts].index(_ACTION) + 1
    end = str(tokenizer.convert_ids_to_tokens(response_end_id(tokenizer)))
    literal, field = parts[after]
    if not literal.lstrip().startswith(end):
        raise ConfigError(
            f"the tokenizer's chat template writes {literal[:40]!r} after an assistant's turn, "
            f"which does not begin with the policy's end token {end!r}: no turn could follow one "
            "that ended. Where the template's is an end token too, name it in the "
            "checkpoint's generation_config.json (eos_token_id)"
        )
    # The policy wrote its end token itself.
    return [(literal.lstrip()[len(end) :], field), *parts[after + 1 :]]
