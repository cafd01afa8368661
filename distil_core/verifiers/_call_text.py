"""Reads tool calls from text, strictly: what JSON leaves open is an error here.

Refused are duplicate keys, NaN and Infinity, numbers with more than 400 characters or an exponent
beyond 400, and nesting deeper than 64. Numbers are read exactly, so that 1 equals 1.0, and
9007199254740993 differs from 9007199254740992.
"""

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from distil_core.verifiers._final_answer import quoted

CallFormat = Literal["tool_call_tags", "json", "action_lines"]

_MAX_CHARACTERS = 100_000
_MAX_CALLS = 64
_MAX_DEPTH = 64
_MAX_NUMBER_CHARACTERS = 400
_MAX_EXPONENT = 400
_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
# It matches at every quote, even one that is never closed, so that the scan is linear.
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_NAME_KEYS = ("name", "Action", "action")
_ARGUMENT_KEYS = ("arguments", "parameters", "Action_Input", "Action Input", "action_input")
_OTHER_KEYS = frozenset(("id", "type", "index", "call_id"))
# `Action: name` and `Action Input: {..}`, on two lines or on one.
_LABEL = re.compile(
    r"^[ \t]*[*_]{0,3}(Action[ _]Input|Action|Thought|Observation|Final Answer)[*_]{0,3}"
    r"[ \t]*:[*_]{0,3}",
    re.MULTILINE,
)
_INPUT_ON_THE_LINE = re.compile(r"[ \t]Action[ _]Input[ \t]*:")


class CallError(Exception):
    """The text has no readable calls; the message is a sentence that says why."""


@dataclass(frozen=True)
class Call:
    """One tool call: the tool's name, and the arguments as JSON values with exact numbers."""

    name: str
    arguments: dict[str, Any]


def read_calls(text: str, call_format: CallFormat) -> list[Call]:
    """The calls in a response, in order. Raises `CallError` where they cannot be read.

    tool_call_tags: each `<tool_call>..</tool_call>` holds a call or a list of calls; text outside
    is ignored. json: the whole text, or one fenced code block, is a call or a list of calls.
    action_lines: each line `Action: name` is a call, with the `Action Input: {..}` that follows it.
    A text that has both of these lines and no tag is read as action_lines under tool_call_tags,
    too.
    """
    if len(text) > _MAX_CHARACTERS:
        raise CallError(f"The response has more than {_MAX_CHARACTERS} characters.")
    if call_format == "json":
        return _calls(_unfenced(text), "The response")
    if call_format == "action_lines":
        return _from_action_lines(text)
    blocks = _blocks(text)
    if not blocks and {"Action", "Action Input"} <= {label for label, _ in _labelled(text)}:
        return _from_action_lines(text)
    calls: list[Call] = []
    for number, block in enumerate(blocks, start=1):
        calls += _calls(block, f"<tool_call> block {number}")
        _require_few(calls)
    return calls


def _require_few(calls: list[Any]) -> None:
    if len(calls) > _MAX_CALLS:
        raise CallError(f"The response has more than {_MAX_CALLS} calls.")


def _unfenced(text: str) -> str:
    """The content of a fenced code block that is the whole text; any other text unchanged."""
    stripped = text.strip()
    first, _, rest = stripped.partition("\n")
    if first.rstrip() in ("```", "```json") and rest.endswith("```"):
        return rest[:-3]
    return text


def _labelled(text: str) -> list[tuple[str, str]]:
    """The parts of a text that start with a label at the beginning of a line, in order."""
    labels = list(_LABEL.finditer(text))
    parts: list[tuple[str, str]] = []
    for index, label in enumerate(labels):
        end = labels[index + 1].start() if index + 1 < len(labels) else len(text)
        name, content = label[1].replace("_", " "), text[label.end() : end]
        split = _INPUT_ON_THE_LINE.search(content.partition("\n")[0]) if name == "Action" else None
        if split:
            parts += [(name, content[: split.start()]), ("Action Input", content[split.end() :])]
        else:
            parts.append((name, content))
    return parts


def _from_action_lines(text: str) -> list[Call]:
    calls: list[Call] = []
    name: str | None = None
    for label, content in _labelled(text):
        if label in ("Thought", "Observation", "Final Answer"):
            continue
        where = f"Action {len(calls) + 1}"
        if label == "Action":
            if name is not None:
                raise CallError(f"{where} has no Action Input.")
            name = content.strip().partition("\n")[0].strip(" \t*_`\"'")
        elif name is None:
            raise CallError(f"An Action Input stands without its Action, before {where}.")
        else:
            calls.append(_call({"Action": name, "Action_Input": _input_of(content, where)}, where))
            _require_few(calls)
            name = None
    if name is not None:
        raise CallError(f"Action {len(calls) + 1} has no Action Input.")
    return calls


def _input_of(content: str, where: str) -> Any:
    """The JSON value at the start of an Action Input. Prose may follow it, more JSON may not."""
    content = _unfenced(content).strip()
    if not content.startswith("{"):
        return read_json(content, f"{where}, in its input,") if content else {}
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(content):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if depth == 0:
            if "{" in content[token.end() :]:
                raise CallError(f"{where} has more than one object as its input.")
            content = content[: token.end()]
            break
    return read_json(content, f"{where}, in its input,")


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
    _require_few(values)
    return [_call(one, where) for one in values]


def _call(value: Any, where: str) -> Call:
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        if outer := sorted(set(value) - {"function"} - _OTHER_KEYS):
            raise CallError(
                f"{where} holds a call with both 'function' and the key {quoted(outer[0])}."
            )
        value = value["function"]
    if not isinstance(value, dict):
        raise CallError(f"{where} holds {kind_of(value)}, where a call (an object) is needed.")
    name_key = _only_key(value, _NAME_KEYS, where)
    name = value[name_key] if name_key else None
    if not isinstance(name, str) or not name:
        raise CallError(f"{where} holds a call without a name.")
    arguments_key = _only_key(value, _ARGUMENT_KEYS, where)
    if unknown := sorted(set(value) - {name_key, arguments_key} - _OTHER_KEYS):
        raise CallError(f"{where} holds a call with the unknown key {quoted(unknown[0])}.")
    arguments = value[arguments_key] if arguments_key else {}
    if isinstance(arguments, str):
        # The form of OpenAI's API.
        arguments = read_json(arguments, f"{where}, in the arguments,") if arguments.strip() else {}
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        raise CallError(f"{where} holds a call whose arguments are {kind_of(arguments)}.")
    return Call(name, arguments)


def _only_key(value: dict[str, Any], keys: tuple[str, ...], where: str) -> str | None:
    """The key that is present, of several with the same meaning. More than one is an error."""
    present = [key for key in keys if key in value]
    if len(present) > 1:
        raise CallError(f"{where} holds a call with both {present[0]!r} and {present[1]!r}.")
    return present[0] if present else None


def read_json(text: str, where: str) -> Any:
    """One strict JSON value. Raises `CallError`."""
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
    """A value that Python's JSON reader accepts and this one does not. The message completes a
    sentence."""


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
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise _Refused(f"holds the key {quoted(key)} twice in one object")
        values[key] = value
    return values


def kind_of(value: Any) -> str:
    """The type of a JSON value, in words."""
    if value is None or isinstance(value, bool):
        return json.dumps(value) if value is None else "true or false"
    kinds = {str: "a string", Decimal: "a number", list: "a list", dict: "an object"}
    return kinds[type(value)]
