"""Tool calls: equal by meaning, read strictly, and differences named."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distil_core.errors import VerifierError
from distil_core.problems.base import Problem
from distil_core.tools import VERIFIERS
from distil_core.tools.base import Verification

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
    "text", ['"' * 90_000, '"' + '\\"' * 45_000, '{"a":' * 15_000, "1" * 90_000]
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
