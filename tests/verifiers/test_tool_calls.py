"""Tool calls: equal by meaning, read strictly, and differences named."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distil_core.errors import VerifierError
from distil_core.problems.base import Problem
from distil_core.verifiers import VERIFIERS
from distil_core.verifiers.base import Verification

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "properties": {
                    "city": {"type": "string"},
                    "unit": {"type": "string", "default": "celsius"},
                    "days": {"type": "integer"},
                }
            },
        },
    },
    {"name": "get_time"},
]
WEATHER = {"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}
TIME = {"name": "get_time", "arguments": {"at": {"latitude": 48.5, "days": [1, 2]}}}


def verify(
    response: Any,
    reference: Any = (WEATHER, TIME),
    reveal: str = "nothing",
    tools: Any = TOOLS,
    **options: Any,
) -> Verification:
    """A response that is no text is written as JSON."""
    options = {"call_format": "json", **options}
    verifier = VERIFIERS.build("tool_calls", options, reveal=reveal)
    text = response if isinstance(response, str) else json.dumps(response)
    problem = Problem("?", json.dumps(reference), json.dumps({"tools": tools}))
    result: Verification = verifier.verify(problem, text)
    return result


def texts(result: Verification) -> list[str]:
    return [item.text for item in result.feedback]


@pytest.mark.parametrize(
    "response",
    [
        [WEATHER, TIME],
        [{"arguments": {"days": 3.0, "city": "Paris"}, "name": "get_weather"}, TIME],
        [{"name": "get_weather", "arguments": '{"days": 3, "city": "Paris"}'}, TIME],
        [{"name": "get_weather", "parameters": {"city": "Paris", "days": 3}}, TIME],
        [{"id": "1", "type": "function", "function": WEATHER}, TIME],
        [{**WEATHER, "arguments": {**WEATHER["arguments"], "unit": "celsius"}}, TIME],  # type: ignore[dict-item]
        "```json\n" + json.dumps([WEATHER, TIME]) + "\n```",
    ],
)
def test_calls_that_mean_the_same_are_equal(response: Any) -> None:
    result = verify(response)
    assert (result.verdict, result.reward, result.feedback) == ("correct", 1.0, ())


def test_calls_in_tags_with_text_around_them() -> None:
    response = (
        f"First.\n<tool_call>\n{json.dumps(WEATHER)}\n</tool_call>\n"
        f"<tool_call>{json.dumps(TIME)}</tool_call> Done."
    )
    assert verify(response, call_format="tool_call_tags").verdict == "correct"
    assert verify("No call.", reference=[], call_format="tool_call_tags").verdict == "correct"
    none = verify("No call.", reference=WEATHER, call_format="tool_call_tags")
    assert (none.verdict, texts(none)) == ("wrong", ["Call 1 is missing."])


def test_each_difference_is_named_and_the_expected_values_are_not() -> None:
    wrong = {
        "name": "get_weather",
        "arguments": {"city": "London", "days": "3", "unit": "kelvin", "wind": True},
    }
    result = verify([wrong, {"name": "get_time", "arguments": {"at": {"days": [1, 3]}}}])
    assert result.verdict == "wrong"
    assert texts(result) == [
        "Call 1 ('get_weather'): argument 'unit' differs.",
        "Call 1 ('get_weather'): argument 'city' differs.",
        "Call 1 ('get_weather'): argument 'days' is a string and should be a number.",
        "Call 1 ('get_weather'): argument 'wind' should not be given.",
        "Call 2 ('get_time'): argument 'at.latitude' is missing.",
        "Call 2 ('get_time'): argument 'at.days[1]' differs.",
    ]


def test_expected_values_are_told_only_where_the_run_says_so() -> None:
    wrong = {"name": "get_weather", "arguments": {"city": "London", "days": 3}}
    told = verify([wrong], reveal="expected_outputs")
    assert texts(told) == [
        "Call 1 ('get_weather'): argument 'city' differs; it should be '\"Paris\"'.",
        "Call 2 is missing: '" + json.dumps(TIME) + "'.",
    ]


def test_missing_extra_and_other_tools() -> None:
    assert texts(verify([WEATHER])) == ["Call 2 is missing."]
    assert texts(verify([TIME])) == ["Call 1 is missing."]
    assert texts(verify([WEATHER, WEATHER, TIME])) == ["Call 1 ('get_weather') is one too many."]
    assert texts(verify([TIME], reference=WEATHER)) == [
        "Call 1 ('get_time') is not the tool that is needed here."
    ]
    assert texts(verify([{"name": "get_wind"}], reference=WEATHER)) == [
        "Call 1 ('get_wind'): there is no such tool."
    ]


def test_order_counts_unless_the_options_say_otherwise() -> None:
    assert verify([TIME, WEATHER]).verdict == "wrong"
    assert verify([TIME, WEATHER], ordered=False).verdict == "correct"
    near = {"name": "get_weather", "arguments": {"city": "Rome", "days": 3}}
    assert texts(verify([TIME, near], ordered=False)) == [
        "Call 2 ('get_weather'): argument 'city' differs."
    ]


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("1", "1.0", True),
        ("100", "1e2", True),
        ("0.1", "0.10", True),
        ("9007199254740993", "9007199254740992", False),
        ("0.1", "0.1000000000000000055", False),
        ("1", "true", False),
        ("0", "false", False),
        ("1", '"1"', False),
        ("null", "false", False),
        ("[1, 2]", "[2, 1]", False),
        ("[1]", "[1, 1]", False),
        ("[]", "{}", False),
        ('{"a": {"b": [1, {"c": null}]}}', '{"a": {"b": [1.0, {"c": null}]}}', True),
        ('"a"', '"\\u0061"', True),
        ('"\\ud800"', '"\\ud800"', True),
    ],
)
def test_equality_of_values(one: str, other: str, equal: bool) -> None:
    verifier = VERIFIERS.build("tool_calls", {"call_format": "json"}, reveal="nothing")
    for expected, given_value in ((one, other), (other, one)):
        problem = Problem("?", f'{{"name": "f", "arguments": {{"x": {expected}}}}}')
        response = f'{{"name": "f", "arguments": {{"x": {given_value}}}}}'
        assert verifier.verify(problem, response).verdict == ("correct" if equal else "wrong")


@pytest.mark.parametrize(
    ("response", "message"),
    [
        ("", "The response is no JSON"),
        ("I would call it.", "The response is no JSON"),
        ('{"name": "f",}', "The response is no JSON"),
        ("null", "The response holds null, where a call"),
        ("[1]", "The response holds a number, where a call"),
        ('{"arguments": {}}', "a call without a name"),
        ('{"name": 1}', "a call without a name"),
        ('{"name": "f", "arguments": [1]}', "whose arguments are a list"),
        ('{"name": "f", "arguments": "x"}', "in the arguments, is no JSON"),
        ('{"name": "f", "args": {}}', "unknown key 'args'"),
        ('{"name": "f", "arguments": {}, "parameters": {}}', "both 'arguments' and"),
        ('{"name": "f", "name": "g"}', "holds the key 'name' twice"),
        ('{"name": "f", "arguments": {"x": NaN}}', "holds NaN"),
        ('{"name": "f", "arguments": {"x": -Infinity}}', "holds -Infinity"),
        ('{"name": "f", "arguments": {"x": 1e999}}', "exponent beyond 400"),
        ('{"name": "f", "arguments": {"x": ' + "9" * 5000 + "}}", "more than 400 characters"),
        ("[" * 100_000, "nested deeper than 64"),
        ('{"a":' * 65, "nested deeper than 64"),
        ("[" + '{"name": "f"},' * 64 + '{"name": "f"}]', "more than 64 calls"),
        (" " * 100_001, "more than 100000 characters"),
    ],
)
def test_what_cannot_be_read_is_malformed_and_says_why(response: str, message: str) -> None:
    result = verify(response)
    assert (result.verdict, result.reward) == ("malformed", 0.0)
    assert message in texts(result)[0]


@pytest.mark.parametrize(
    ("response", "message"),
    [
        ("<tool_call>{}", "<tool_call> block 1 is not closed"),
        ("</tool_call>", "A </tool_call> stands without"),
        ("<tool_call>x</tool_call>", "<tool_call> block 1 is no JSON"),
        ("<tool_call><tool_call>{}</tool_call>", "block 1 is no JSON"),
        ("<tool_call>{}</tool_call></tool_call>", "A </tool_call> stands without"),
    ],
)
def test_tags_that_cannot_be_read_are_malformed(response: str, message: str) -> None:
    result = verify(response, call_format="tool_call_tags")
    assert result.verdict == "malformed"
    assert message in texts(result)[0]


@pytest.mark.parametrize(
    "text",
    [
        '"' * 90_000,
        '"' + '\\"' * 45_000,
        '{"a":' * 15_000,
        "1" * 90_000,
        "```\n" + " \t" * 45_000,
        "{" + ", ".join(f'"{key}": 1' for key in range(8_000)) + ', "7999": 1}',
        "Action:" * 12_000,
        "Action: f\n" * 9_000,
    ],
)
def test_hostile_text_costs_little(text: str) -> None:
    started = time.process_time()
    assert verify(text).verdict == "malformed"
    assert time.process_time() - started < 2


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
CALLS = st.lists(
    st.builds(
        lambda name, arguments: {"name": name, "arguments": arguments},
        st.sampled_from(["f", "g"]),
        st.dictionaries(st.text(), JSON_VALUES, max_size=4),
    ),
    max_size=4,
)


@given(CALLS, st.booleans(), st.randoms(use_true_random=False))
def test_any_calls_are_equal_to_themselves_in_any_order_of_keys(
    calls: list[dict[str, Any]], as_text: bool, random: Any
) -> None:
    shuffled = [
        {
            "arguments": json.dumps(call["arguments"], sort_keys=True, indent=1)
            if as_text
            else dict(random.sample(list(call["arguments"].items()), len(call["arguments"]))),
            "name": call["name"],
        }
        for call in calls
    ]
    assert verify(shuffled, reference=calls, tools=[]).verdict == "correct"
    random.shuffle(shuffled)
    assert verify(shuffled, reference=calls, tools=[], ordered=False).verdict == "correct"


@given(CALLS, CALLS, st.booleans())
def test_any_two_lists_of_calls_can_be_compared(
    one: list[dict[str, Any]], other: list[dict[str, Any]], ordered: bool
) -> None:
    for reveal in ("nothing", "expected_outputs"):
        result = verify(one, reference=other, tools=[], ordered=ordered, reveal=reveal)
        assert (result.verdict == "correct") == (not result.feedback)
        for text in texts(result):
            text.encode("utf-8")


@pytest.mark.parametrize(
    ("reference", "metadata"),
    [
        ("f()", "{}"),
        ("[1]", "{}"),
        ('{"name": "f"}', '{"tools": 1}'),
        ('{"name": "f"}', '{"tools": [{"parameters": {}}]}'),
        ('{"name": "f"}', "no JSON"),
    ],
)
def test_a_reference_or_schema_that_cannot_be_read_is_no_wrong_answer(
    reference: str, metadata: str
) -> None:
    verifier = VERIFIERS.build("tool_calls", {"call_format": "json"}, reveal="nothing")
    with pytest.raises(VerifierError, match="problem"):
        verifier.verify(Problem("?", reference, metadata), "[]")


FLAT = [
    {
        "name": "top",
        "description": "d",
        "parameters": {
            "kind": {"type": "str", "description": "d", "default": "film"},
            "limit": {"type": "int, optional", "description": "d", "default": 10},
        },
    }
]


@pytest.mark.parametrize(
    ("given_arguments", "verdict"),
    [
        ({}, "correct"),
        ({"kind": "film"}, "correct"),
        ({"limit": 10.0, "kind": "film"}, "correct"),
        ({"kind": "book"}, "wrong"),
        ({"limit": "10"}, "wrong"),
    ],
)
def test_defaults_of_xlams_flat_schemas(given_arguments: Any, verdict: str) -> None:
    call = {"name": "top", "arguments": given_arguments}
    for tools in (FLAT, json.dumps(FLAT)):
        result = verify([call], reference=[{"name": "top", "arguments": {}}], tools=tools)
        assert result.verdict == verdict


@pytest.mark.parametrize(
    "parameters",
    [
        {"type": {"type": "str", "default": "a"}, "b": {"type": "str"}},
        {"properties": {"type": "str", "default": "a"}},
        {"type": "object", "properties": {"x": {"default": "a"}}},
        {"properties": {"x": {"default": "a"}}},
    ],
)
def test_a_parameter_may_have_the_name_of_a_part_of_a_schema(parameters: Any) -> None:
    name = "x" if "x" in parameters.get("properties", {}) else next(iter(parameters))
    tools = [{"name": "f", "parameters": parameters}]
    calls = [{"name": "f"}], [{"name": "f", "arguments": {name: "a"}}]
    assert verify(calls[0], reference=calls[1], tools=tools).verdict == "correct"
    assert verify(calls[1], reference=calls[0], tools=tools).verdict == "correct"


def test_anthropics_schemas_and_two_tools_of_one_name() -> None:
    tool = {"name": "f", "input_schema": {"properties": {"x": {"default": 1}}}}
    call = {"name": "f", "arguments": {"x": 1}}
    assert verify([{"name": "f"}], reference=[call], tools=[tool, tool]).verdict == "correct"
    with pytest.raises(VerifierError, match="two tools have the name 'f' and differ"):
        verify([call], reference=[call], tools=[tool, {"name": "f"}])


def test_null_arguments_are_none() -> None:
    null, empty = ({"name": "get_time", "arguments": value} for value in (None, {}))
    for response, reference in ((null, empty), (empty, null), ({"name": "get_time"}, null)):
        assert verify([response], reference=[reference]).verdict == "correct"
    assert verify([{"name": "get_time", "arguments": "null"}], reference=[empty]).verdict == (
        "correct"
    )


def test_what_a_response_thinks_is_no_call() -> None:
    call = f"<tool_call>{json.dumps(TIME)}</tool_call>"
    for thought in (
        "<think>I will write one <tool_call>.</think>\n",
        f"<think><tool_call>{json.dumps(WEATHER)}</tool_call> no</think>\n",
        "I will write one <tool_call>.</think>",
    ):
        result = verify(thought + call, reference=TIME, call_format="tool_call_tags")
        assert result.verdict == "correct"
        assert verify(f"{thought}{json.dumps(TIME)}", reference=TIME).verdict == "correct"
    unfinished = verify(f"<think>{call}", reference=TIME, call_format="tool_call_tags")
    assert texts(unfinished) == ["Call 1 is missing."]


ACTION = {"Action": "get_weather", "Action_Input": '{"city": "Paris", "days": 3}'}


@pytest.mark.parametrize("call_format", ["action_lines", "tool_call_tags"])
@pytest.mark.parametrize(
    "response",
    [
        'Action: get_weather\nAction Input: {"city": "Paris", "days": 3}',
        'Thought: {?}\n**Action:** `get_weather`\n**Action Input:** {"days": 3, "city": "Paris"}',
        'Action: get_weather Action Input: {"city": "Paris", "days": 3}\nObservation: {"rain": 1}',
        'Action: get_weather\nAction_Input:\n```json\n{\n"city": "Paris",\n"days": 3}\n```\n',
        '<think>Action: f</think>Action: get_weather\nAction Input: {"city": "Paris", "days": 3}.',
    ],
)
def test_action_lines(response: str, call_format: str) -> None:
    for reference in ([ACTION], [WEATHER]):
        assert verify(response, reference=reference, call_format=call_format).verdict == "correct"


def test_action_lines_with_several_calls_and_with_none() -> None:
    two = 'Action: get_time\nAction Input:\nAction: get_weather\nAction Input: {"city": "Rome"}'
    reference = [
        {"Action": "get_time", "Action_Input": "{}"},
        {"Action": "get_weather", "Action_Input": {"city": "Rome"}},
    ]
    assert verify(two, reference=reference, call_format="action_lines").verdict == "correct"
    assert verify("Action: f", reference=[], call_format="tool_call_tags").verdict == "correct"
    assert verify("It rains.", reference=[], call_format="action_lines").verdict == "correct"


@pytest.mark.parametrize(
    ("response", "message"),
    [
        ("Action: f", "Action 1 has no Action Input."),
        ("Action: f\nAction: g\nAction Input: {}", "Action 1 has no Action Input."),
        ("Action Input: {}", "An Action Input stands without its Action"),
        ("Action:\nAction Input: {}", "holds a call without a name"),
        ('Action: f\nAction Input: {"a": 1} or {"a": 2}', "more than one object"),
        ('Action: f\nAction Input: {"a": 1, "a": 2}', "holds the key 'a' twice"),
        ("Action: f\nAction Input: {a", "in its input, is no JSON"),
        ("Action: f\nAction Input: [1]", "whose arguments are a list"),
        ("Action: f\nAction Input: {}\n" * 65, "more than 64 calls"),
    ],
)
def test_action_lines_that_cannot_be_read(response: str, message: str) -> None:
    result = verify(response, call_format="action_lines")
    assert result.verdict == "malformed"
    assert message in texts(result)[0]


@pytest.mark.parametrize(
    "call",
    [
        '{"name": "f", "Action": "f"}',
        '{"name": "f", "function": {"name": "f"}}',
        '{"function": {"name": "f"}, "arguments": {"a": 1}}',
        '{"name": "f", "arguments": {}, "Action_Input": {}}',
        '{"name": "f", "arguments": {"a": 1, "a": 1}}',
        '{"name": "f", "arguments": {"a": {"b": 1, "\\u0062": 2}}}',
        '{"name": "f", "arguments": "{\\"a\\": 1, \\"a\\": 2}"}',
    ],
)
def test_contradictory_and_duplicate_keys_are_refused(call: str) -> None:
    assert verify(call, reference={"name": "f"}, tools=[]).verdict == "malformed"
    verifier = VERIFIERS.build("tool_calls", {}, reveal="nothing")
    with pytest.raises(VerifierError, match="the reference of problem"):
        verifier.check_problem(Problem("?", call))


def test_what_is_kept_of_large_calls_is_bounded() -> None:
    numbers = {"name": "f", "arguments": {"x": [0] * 9000}}
    text = json.dumps(numbers).replace("0,", "1e400,")
    same, other = verify(text, tools=[]), verify(text.replace("1e400", "1e-400"), tools=[])
    assert same.answer == verify(text.replace("1e400", "10e399"), tools=[]).answer != other.answer
    for result in (same, other):
        assert result.answer is not None
        assert len(result.answer) < 100
        assert sum(map(len, texts(result))) < 1000


@pytest.mark.parametrize("reference", ["f()", "[1]", '{"name": "f", "arguments": 1}'])
def test_references_are_checked_before_anything_is_sampled(reference: str) -> None:
    verifier = VERIFIERS.build("tool_calls", {}, reveal="nothing")
    verifier.check_problem(Problem("?", json.dumps([WEATHER]), json.dumps({"tools": TOOLS})))
    with pytest.raises(VerifierError, match="problem"):
        verifier.check_problem(Problem("?", reference))
    with pytest.raises(VerifierError, match="metadata field 'tools'"):
        verifier.check_problem(Problem("?", "[]", '{"tools": [1]}'))
