"""Read fields of rows in the forms in which people publish them: nested, JSON in text, chat
messages."""

import ast
import json
import math
import re
import unicodedata
from decimal import Decimal
from typing import Any

from distil_core.problems.messages import ROLES, Message, Role
from distil_core.problems.row_formats import Row

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}
"""Roles of messages, and what ShareGPT's rows call them."""

_LIST_OF_MAPPINGS = re.compile(r"\s*\[\s*\{")

METADATA = "metadata"
"""What all fields for verifiers are called together."""

_MAX_WRITTEN_OUT = 20
"""Powers of ten beyond this stay in scientific notation."""


class MissingField(KeyError):
    """The row has no such field. The message says which, and how far its path leads."""

    def __str__(self) -> str:
        return str(self.args[0])


def find(row: Row, name: str) -> Any:
    """A field's value, by name or by a path of names and list indices joined by dots:
    `reward_model.ground_truth`, `messages.0.content`, `messages.-1.content`.

    A column whose name is the whole path comes first. Text on the path is parsed as JSON; below
    null everything is null. Raises `MissingField` where the row has no such field, and `ValueError`
    where text on the path is not JSON.
    """
    return _find(row, name.split("."), [], name)


def _find(value: Any, parts: list[str], done: list[str], name: str) -> Any:
    if not parts:
        return value
    if isinstance(value, str):
        value = _read_json(value, ".".join(done)) if value.strip() else None
    if value is None:
        return None
    if isinstance(value, dict):
        for length in range(len(parts), 0, -1):
            key = ".".join(parts[:length])
            if key in value:
                return _find(value[key], parts[length:], [*done, key], name)
    elif isinstance(value, list) and parts[0].removeprefix("-").isdecimal():
        index = int(parts[0])
        if -len(value) <= index < len(value):
            return _find(value[index], parts[1:], [*done, parts[0]], name)
    where = f" ({'.'.join(done)!r} has {described(value)})" if done else ""
    raise MissingField(f"{name!r}{where}")


def _read_json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(
            f"{name!r} is text that is no JSON ({error}), so it has no fields: found {text!r:.80}"
        ) from error


def described(value: Any) -> str:
    """What a row or another value holds: names and types."""
    if isinstance(value, dict):
        fields = (f"{name} ({type(field).__name__})" for name, field in value.items())
        return ", ".join(fields) or "no field"
    if isinstance(value, list):
        return f"{len(value)} items"
    return f"the value {value!r:.80}"


def read_text(value: Any, name: str) -> str | None:
    """The text that a student reads, from a value that is text or chat messages; None for other
    values.

    Messages are [{"role", "content"}] or ShareGPT's [{"from", "value"}], also as text in JSON or in
    Python's notation. A content may be a list of text parts, which are joined directly. A system
    message precedes the user's, with a blank line between. Raises `ValueError` for any other
    conversation, and for parts that are not text.
    """
    messages = _messages(value)
    if messages is not None:
        return _joined(messages, name)
    if isinstance(value, list) and value and all(map(_is_text_part, value)):
        return _content(value, name)
    return value if isinstance(value, str) else None


def read_turns(value: Any, name: str) -> tuple[Message, ...] | None:
    """The messages of a conversation, a blank system turn left out; None for what is no messages.

    Raises `ValueError` where it does not end with a user's message, has a system turn elsewhere
    than at its beginning, other roles, or a turn without text.
    """
    found = _messages(value)
    if found is None:
        return None
    turns = []
    for place, message in enumerate(found):
        role = ROLES.get(_role(message) or "")
        if role is None:
            raise ValueError(
                f"{name}.{place} is a message of {_role(message)!r}: expected system, user or "
                "assistant; tools and their calls are no part of a prompt here"
            )
        text = _content(message.get("content", message.get("value")), f"{name}.{place}")
        if role == "system" and place:
            raise ValueError(
                f"{name}.{place} is a system message: expected one at the beginning only"
            )
        if not is_blank(text):
            turns.append(Message(role, text))
        elif role != "system":
            called = " but calls of tools" if message.get("tool_calls") else ""
            raise ValueError(f"{name}.{place}, a message of {role!r}, has no text{called}")
    if not turns or turns[-1].role != "user":
        roles = ", ".join(str(_role(message)) for message in found[-9:])
        raise ValueError(
            f"{name!r} must end with a user's message, which the student answers, found "
            f"({roles}): leave the answer out of the prompt, and name it as reference_field"
        )
    return tuple(turns)


def _messages(value: Any) -> list[dict[str, Any]] | None:
    """The value as messages; None where it is something else."""
    if isinstance(value, str):
        value = _literal(value)
    found = [value] if isinstance(value, dict) else value
    if not isinstance(found, list) or not found:
        return None
    if not all(isinstance(item, dict) and _role(item) for item in found):
        return None
    has_content = any("content" in item or "value" in item for item in found)
    return found if has_content or all(_role(item) in _ROLES for item in found) else None


def _literal(text: str) -> Any:
    """The value of a text that may be a list of messages, in JSON or as Python prints a list."""
    if not _LIST_OF_MAPPINGS.match(text):
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return None


def require_no_messages(value: Any, name: str) -> None:
    """Raise `ValueError` where messages are nested in a value: written as JSON they would be no
    prompt."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        if not isinstance(item, dict | list):
            continue
        if _messages(item) is not None:
            raise ValueError(
                f"{name!r} holds messages in {name}.{key}: name that field in its place"
            )
        require_no_messages(item, f"{name}.{key}")


def is_blank(text: str) -> bool:
    """Whether nothing in the text is visible: only blanks and characters without width."""
    return all(sign.isspace() or unicodedata.category(sign) == "Cf" for sign in text)


def _role(message: dict[str, Any]) -> str | None:
    role = message.get("role", message.get("from"))
    return _ROLES.get(role, role) if isinstance(role, str) else None


def _joined(messages: list[dict[str, Any]], name: str) -> str:
    roles = [_role(message) for message in messages]
    if roles not in (["user"], ["system", "user"]):
        raise ValueError(
            f"{name!r} is a conversation ({', '.join(map(str, roles[:9]))}): expected the message "
            "of one user, and at most a system's before it; name the message that you mean, for "
            f"example {name}.{roles.index('user') if 'user' in roles else 0}.content"
        )
    texts = [
        _content(message.get("content", message.get("value")), f"{name}.{index}")
        for index, message in enumerate(messages)
    ]
    if is_blank(texts[-1]):
        return ""
    return "\n\n".join(text for text in texts if not is_blank(text))


def _content(content: Any, name: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    for part in parts:
        if not isinstance(part, str) and not _is_text_part(part):
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            raise ValueError(f"{name!r} holds a part of type {kind!r}: expected text only")
    return "".join(part if isinstance(part, str) else part["text"] or "" for part in parts)


def _is_text_part(part: Any) -> bool:
    if not isinstance(part, dict) or part.get("type") != "text" or "text" not in part:
        return False
    return part["text"] is None or isinstance(part["text"], str)


def written(value: Any, name: str) -> str:
    """A value that is not text, as people write it: numbers plainly, anything else as JSON."""
    if isinstance(value, float | Decimal):
        require_finite(value, name)
        return _number(value)
    return as_json(value, name)


def _number(value: float | Decimal) -> str:
    # Floats by their shortest exact digits; 1e-07 is written as 0.0000001.
    text = str(value)
    number = Decimal(text)
    is_short = number == 0 or abs(number.adjusted()) <= _MAX_WRITTEN_OUT
    return format(number, "f") if "e" in text.lower() and is_short else text


def reference_text(value: Any, name: str) -> str:
    """The gold solution as text. Raises `ValueError` for null, blank text and truth values, which
    could be written in several ways."""
    messages = _messages(value)
    if messages is not None and len(messages) == 1:
        value = _content(messages[0].get("content", messages[0].get("value")), name)
    if value is None or (isinstance(value, str) and is_blank(value)):
        raise ValueError(f"expected a reference in {name!r}, found {value!r}")
    if isinstance(value, bool):
        raise ValueError(
            f"expected text or a number as reference in {name!r}, found {value}: write the text "
            "that a response is to give, such as yes"
        )
    return value if isinstance(value, str) else written(value, name)


def as_json(value: Any, name: str) -> str:
    """Values as JSON text for verifiers. Raises `ValueError` for what JSON cannot express."""
    require_finite(value, name)
    try:
        return json.dumps(value, sort_keys=True)
    except TypeError as error:
        remedy = "name the fields to keep in metadata_fields"
        if name != METADATA:
            remedy = "expected text, a number, a list or a mapping"
        raise ValueError(f"{name} cannot be kept as JSON ({error}): {remedy}") from error


def require_finite(value: Any, name: str) -> None:
    """Raise `ValueError`, naming the field, for NaN and infinities anywhere in the value."""
    if isinstance(value, float | Decimal):
        if not math.isfinite(value):
            raise ValueError(
                f"{name} is {value}, which is no JSON value: expected a number, or null for none"
            )
    elif isinstance(value, dict):
        for key, item in value.items():
            require_finite(item, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            require_finite(item, f"{name}.{index}")
