"""Reads tool calls from text, strictly: what JSON leaves open is an error here.

Duplicate keys, NaN and Infinity, numbers of more than 400 characters or an exponent beyond 400,
and nesting deeper than 64 are refused. Numbers are read exactly, so that 1 and 1.0 are equal and
9007199254740993 and 9007199254740992 are not.
"""

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from distil_core.tools._final_answer import quoted

CallFormat = Literal["tool_call_tags", "json"]

_MAX_CHARACTERS = 100_000
_MAX_CALLS = 64
_MAX_DEPTH = 64
_MAX_NUMBER_CHARACTERS = 400
_MAX_EXPONENT = 400
_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_FENCED = re.compile(r"\s*```(?:json)?[ \t]*\n(.*?)\n?[ \t]*```\s*", re.DOTALL)
# It matches at every quote, also one that is never closed: the scan is linear.
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_OTHER_KEYS = frozenset(("id", "type", "index", "call_id"))


class CallError(Exception):
    """The text holds no readable calls; the message says why, as a sentence."""


@dataclass(frozen=True)
class Call:
    """One tool call: which tool, and its arguments as JSON values with exact numbers."""

    name: str
    arguments: dict[str, Any]


def read_calls(text: str, call_format: CallFormat) -> list[Call]:
    """The calls in a response, in order; raises `CallError` where they cannot be read.

    tool_call_tags: one call, or a list of them, in each `<tool_call>..</tool_call>`; other text
    around them is no call. json: the whole text, or one fenced code block, is a call or a list.
    """
    if len(text) > _MAX_CHARACTERS:
        raise CallError(f"The response has more than {_MAX_CHARACTERS} characters.")
    if call_format == "json":
        fenced = _FENCED.fullmatch(text)
        return _calls(fenced[1] if fenced else text, "The response")
    calls: list[Call] = []
    for number, block in enumerate(_blocks(text), start=1):
        calls += _calls(block, f"<tool_call> block {number}")
        if len(calls) > _MAX_CALLS:
            raise CallError(f"The response has more than {_MAX_CALLS} calls.")
    return calls


def _blocks(text: str) -> list[str]:
    blocks: list[str] = []
    position = 0
    while (opening := text.find(_OPEN, position)) >= 0:
        start = opening + len(_OPEN)
        end = text.find(_CLOSE, start)
        if end < 0:
            raise CallError(f"<tool_call> block {len(blocks) + 1} is not closed.")
        if _CLOSE in text[position:opening]:
            raise CallError("A </tool_call> stands without its <tool_call>.")
        blocks.append(text[start:end])
        position = end + len(_CLOSE)
    if _CLOSE in text[position:]:
        raise CallError("A </tool_call> stands without its <tool_call>.")
    return blocks


def _calls(text: str, where: str) -> list[Call]:
    value = read_json(text, where)
    values = value if isinstance(value, list) else [value]
    if len(values) > _MAX_CALLS:
        raise CallError(f"The response has more than {_MAX_CALLS} calls.")
    return [_call(one, where) for one in values]


def _call(value: Any, where: str) -> Call:
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = {**value["function"], **{key: value[key] for key in value if key in _OTHER_KEYS}}
    if not isinstance(value, dict):
        raise CallError(f"{where} holds {kind_of(value)}, where a call (an object) is needed.")
    name = value.get("name")
    if not isinstance(name, str) or not name:
        raise CallError(f"{where} holds a call without a name.")
    keys = [key for key in ("arguments", "parameters") if key in value]
    if len(keys) > 1:
        raise CallError(f"{where} holds a call with both 'arguments' and 'parameters'.")
    if unknown := sorted(set(value) - {"name", *keys} - _OTHER_KEYS):
        raise CallError(f"{where} holds a call with the unknown key {quoted(unknown[0])}.")
    arguments = value[keys[0]] if keys else {}
    if isinstance(arguments, str):
        # As OpenAI's interface writes them.
        arguments = read_json(arguments, f"{where}, in the arguments,") if arguments.strip() else {}
    if not isinstance(arguments, dict):
        raise CallError(f"{where} holds a call whose arguments are {kind_of(arguments)}.")
    return Call(name, arguments)


def read_json(text: str, where: str) -> Any:
    """One strict JSON value; raises `CallError`."""
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if depth > _MAX_DEPTH:
            raise CallError(f"{where} is nested deeper than {_MAX_DEPTH}.")
    try:
        return json.loads(
            text,
            parse_int=_number,
            parse_float=_number,
            parse_constant=_refused_constant,
            object_pairs_hook=_without_duplicates,
        )
    except json.JSONDecodeError as error:
        raise CallError(
            f"{where} is no JSON: {error.msg} at character {error.pos + 1}, "
            f"{quoted(text[error.pos : error.pos + 20])}."
        ) from error
    except _Refused as error:
        raise CallError(f"{where} {error}.") from error
    except RecursionError as error:
        raise CallError(f"{where} is nested too deep.") from error


class _Refused(Exception):
    """Valid for Python's reader, not here; the message goes on after what was read."""


def _number(text: str) -> Decimal:
    if len(text) > _MAX_NUMBER_CHARACTERS:
        raise _Refused(f"holds a number of more than {_MAX_NUMBER_CHARACTERS} characters")
    exponent = re.search(r"[eE]([-+]?\d+)$", text)
    if exponent and abs(int(exponent[1])) > _MAX_EXPONENT:
        raise _Refused(f"holds a number with an exponent beyond {_MAX_EXPONENT}")
    return Decimal(text)


def _refused_constant(text: str) -> Any:
    raise _Refused(f"holds {text}, which is no JSON")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for index, key in enumerate(keys) if key in keys[:index])
        raise _Refused(f"holds the key {quoted(twice)} twice in one object")
    return values


def kind_of(value: Any) -> str:
    """What a JSON value is, in words."""
    if value is None or isinstance(value, bool):
        return json.dumps(value) if value is None else "true or false"
    kinds = {str: "a string", Decimal: "a number", list: "a list", dict: "an object"}
    return kinds[type(value)]
