"""Which calls a turn holds, in each of the formats that models write."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distil_core.tools.reading import calls_in
from distil_core.verifiers._call_text import Call, CallError

CALL = '{"name": "f", "arguments": {"a": "b"}}'
MADE = Call("f", {"a": "b"})


@pytest.mark.parametrize(
    ("call_format", "text", "expected"),
    [
        ("tool_call_tags", f"I call.\n<tool_call>\n{CALL}\n</tool_call>", [MADE]),
        ("tool_call_tags", f"<tool_call>{CALL}</tool_call>" * 2, [MADE, MADE]),
        ("tool_call_tags", "The answer is 3.", []),
        ("tool_call_tags", CALL, []),
        ("json", CALL, [MADE]),
        ("json", f"```json\n{CALL}\n```", [MADE]),
        ("json", f"[{CALL}, {CALL}]", [MADE, MADE]),
        ("json", f"I would call {CALL}", []),
        ("json", '{"answer": 3}', []),
        ("json", "[1, 2]", []),
        ("json", "42", []),
        ("llama3_json", '{"name": "f", "parameters": {"a": "b"}}', [MADE]),
        ("llama3_json", f"<|python_tag|>{CALL}", [MADE]),
        ("llama3_json", f"{CALL}; {CALL};", [MADE, MADE]),
        ("llama3_json", "Three.", []),
        ("llama3_json", '{"answer": 3}', []),
        ("fenced_python", "So:\n```python\nx = 1\n```\nDone.", [Call("py", {"code": "x = 1\n"})]),
        ("fenced_python", "````py\n```\n````", [Call("py", {"code": "```\n"})]),
        ("fenced_python", "```python\na\n```\n```Python3\nb\n```", [
            Call("py", {"code": "a\n"}), Call("py", {"code": "b\n"})]),
        ("fenced_python", "```\nx\n```\n```json\n{}\n```", []),
        ("fenced_python", "`x` is 3", []),
    ],
)  # fmt: skip
def test_calls_are_found(call_format: str, text: str, expected: list[Call]) -> None:
    assert calls_in(text, call_format, "py") == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call_format", "text", "reason"),
    [
        ("tool_call_tags", f"<tool_call>{CALL}", "not closed"),
        ("tool_call_tags", "<tool_call>f(1)</tool_call>", "no JSON"),
        ("tool_call_tags", '<tool_call>{"name": "f", "x": 1}</tool_call>', "unknown key"),
        ("json", '{"name": "f", "arguments": {', "no JSON"),
        ("json", '{"name": "f", "name": "g"}', "twice"),
        ("json", '{"name": "f", "arguments": 3}', "arguments are a number"),
        ("json", "[" * 1000, "nested"),
        ("llama3_json", f"{CALL}; {{", "no JSON"),
        ("llama3_json", f"{CALL} and so on", "no JSON"),
        ("fenced_python", "```python\nx = 1", "not closed"),
        ("fenced_python", "````python\nx = 1\n```", "not closed"),
        ("json", "{" + " " * 100_000, "more than 100000 characters"),
    ],
)
def test_what_is_meant_as_a_call_and_is_none_is_said(
    call_format: str, text: str, reason: str
) -> None:
    with pytest.raises(CallError, match=reason):
        calls_in(text, call_format)  # type: ignore[arg-type]


NAMES = st.text(min_size=1, max_size=8)
ARGUMENTS = st.dictionaries(st.text(max_size=5), st.text(max_size=20) | st.booleans(), max_size=3)


@given(st.lists(st.tuples(NAMES, ARGUMENTS), min_size=1, max_size=4))
def test_any_call_survives_every_format(pairs: list[tuple[str, dict[str, object]]]) -> None:
    calls = [Call(name, arguments) for name, arguments in pairs]
    texts = [json.dumps({"name": name, "arguments": arguments}) for name, arguments in pairs]
    assert calls_in(f"[{','.join(texts)}]", "json") == calls
    assert calls_in(";".join(texts), "llama3_json") == calls


@given(
    st.text(max_size=300) | st.text('{}[]";`<>/| \ntool_calpythonname:', max_size=200),
    st.sampled_from(["tool_call_tags", "llama3_json", "json", "fenced_python"]),
)
def test_any_text_has_calls_or_a_reason(text: str, call_format: str) -> None:
    try:
        calls = calls_in(text, call_format)  # type: ignore[arg-type]
    except CallError:
        return
    assert all(isinstance(call, Call) for call in calls)
