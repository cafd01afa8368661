"""Reads the calls in a policy's turn, in the formats that models write."""

import json
import re
from decimal import Decimal
from typing import Any, Literal

from distil_core.verifiers._call_text import Call, CallError, read_calls

CallFormat = Literal["tool_call_tags", "llama3_json", "json", "fenced_python"]

_PYTHON_TAG = "<|python_tag|>"
_OPENING = re.compile(r"[ ]{0,3}(`{3,})[ \t]*(?:python3?|py)[ \t]*\r?", re.IGNORECASE)
_NAMES = ("name", "function", "Action", "action")
_MAX_CHARACTERS = 100_000


def calls_in(text: str, call_format: CallFormat, code_function: str = "python") -> list[Call]:
    """The calls of a turn, in order; none where the turn is an answer. Raises `CallError` for what
    is meant as a call and cannot be read as one.

    tool_call_tags: each `<tool_call>..</tool_call>` holds a call. json: the whole text, or one
    fenced block, is a call or a list of calls. llama3_json: the same, after `<|python_tag|>` or
    without it, with `;` between several. fenced_python: each block of Python is a call of
    `code_function`.
    """
    if len(text) > _MAX_CHARACTERS:
        raise CallError(f"The turn has more than {_MAX_CHARACTERS} characters.")
    if call_format == "tool_call_tags":
        return read_calls(text, "tool_call_tags")
    if call_format == "fenced_python":
        return [Call(code_function, {"code": code}) for code in _python_blocks(text)]
    if call_format == "llama3_json":
        return _llama_calls(text.strip().removeprefix(_PYTHON_TAG).strip())
    return read_calls(text, "json") if _is_meant_as_call(_unfenced(text)) else []


def plain_arguments(call: Call) -> dict[str, Any]:
    """The arguments as tools take them: exact numbers as int where they are whole, else float, and
    text that is valid UTF-8."""
    arguments: dict[str, Any] = _plain(call.arguments)
    return arguments


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {_plain(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, str):
        # JSON can spell lone surrogates.
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    return value


def _unfenced(text: str) -> str:
    first, _, rest = text.strip().partition("\n")
    is_fenced = first.rstrip() in ("```", "```json") and rest.endswith("```")
    return rest[:-3].strip() if is_fenced else text.strip()


def _is_meant_as_call(text: str) -> bool:
    """Whether it is JSON of calls, or broken JSON that may have become one. An answer may be JSON
    too: it names nothing to call."""
    if not text.startswith(("{", "[")):
        return False
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return True
    values = value if isinstance(value, list) else [value]
    return any(isinstance(one, dict) and any(name in one for name in _NAMES) for one in values)


def _llama_calls(text: str) -> list[Call]:
    if not _is_meant_as_call(text):
        return []
    calls: list[Call] = []
    for part in _parts(text):
        calls += read_calls(part, "json")
    return calls


def _parts(text: str) -> list[str]:
    """JSON values with `;` between them. Text that is none stays whole, so that its error is
    told."""
    decoder, position = json.JSONDecoder(), 0
    parts: list[str] = []
    while position < len(text):
        try:
            end: Any = decoder.raw_decode(text, position)[1]
        except (ValueError, RecursionError):
            return [*parts, text[position:]]
        parts.append(text[position:end])
        rest = text[end:].lstrip()
        if rest and not rest.startswith(";"):
            return [text]
        position = len(text) - len(rest.removeprefix(";").lstrip())
    return parts


def _python_blocks(text: str) -> list[str]:
    blocks: list[str] = []
    fence, lines = "", [""]
    for line in text.split("\n"):
        if not fence:
            if opening := _OPENING.fullmatch(line):
                fence, lines = opening[1], []
        elif line.strip().startswith(fence) and not line.strip().strip("`"):
            blocks.append("\n".join(lines) + "\n")
            fence = ""
        else:
            lines.append(line)
    if fence:
        raise CallError(f"The block of Python that begins with {fence} is not closed.")
    return blocks
