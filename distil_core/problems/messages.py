"""Prompts that are a conversation: what a problem keeps of its messages, and their text.

A problem's prompt is always text, by which it is known and which verifiers read. Where it was a
conversation of several messages that the model's chat template is to write, these are kept in the
problem's metadata beside what is there for verifiers.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from distil_core.errors import DataError
from distil_core.problems.base import Problem

MESSAGES = "distil_prompt_messages"
"""Of a problem's metadata."""

Role = Literal["system", "user", "assistant"]
ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
"""The roles that a message may have."""

_NAMES = {"user": "User", "assistant": "Assistant"}


class Message(NamedTuple):
    """One turn of a conversation."""

    role: Role
    content: str


Prompt = str | tuple[Message, ...]
"""What the student reads: a text, or a conversation that ends with a user's message."""


def with_messages(metadata: Mapping[str, Any], messages: Sequence[Message]) -> dict[str, Any]:
    """The metadata of a problem whose prompt is this conversation, and its text the `transcript`.
    One message of a user is a prompt like any other. Raises `ValueError` where the metadata has a
    key of our name."""
    if MESSAGES in metadata:
        raise ValueError(f"{MESSAGES!r} is DistIL's own name: call that field something else")
    if len(messages) == 1:
        return dict(metadata)
    return {**metadata, MESSAGES: [message._asdict() for message in messages]}


def prompt_of(problem: Problem) -> Prompt:
    """The problem's prompt as the chat template is to get it. Raises `DataError` for messages that
    are none, which a source of a user's own may have written."""
    if f'"{MESSAGES}"' not in problem.metadata:
        return problem.prompt
    metadata = json.loads(problem.metadata)
    if not isinstance(metadata, dict) or MESSAGES not in metadata:
        return problem.prompt
    try:
        return tuple(Message(**message) for message in metadata[MESSAGES])
    except TypeError as error:
        raise DataError(
            f"problem {problem.problem_id}: {MESSAGES} in its metadata must be a list of messages "
            f"with role and content ({error})"
        ) from error


def transcript(messages: Sequence[Message]) -> str:
    """The conversation as one text: a user's message alone as it is, after a system's and a blank
    line; of several, each with its speaker's name."""
    instructions = [message.content for message in messages if message.role == "system"]
    turns = [message for message in messages if message.role != "system"]
    if len(turns) == 1:
        texts = [turns[0].content]
    else:
        texts = [f"{_NAMES[message.role]}: {message.content}" for message in turns]
    return "\n\n".join([*instructions, *texts])
