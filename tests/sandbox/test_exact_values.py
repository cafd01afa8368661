"""What crosses the border: exact types, strange values, hostile encodings, text of all kinds."""

import array
import collections
import contextlib
import datetime
import decimal
import enum
import fractions
import json
import math
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distil_core.sandbox import Call, NotPlainDataError, Sandbox
from distil_core.sandbox.answers import matches, show
from distil_core.sandbox.inside.values import decode, dump, encode, parse

ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.complex_numbers()
    | st.builds(lambda bits, rest: 2**bits + rest, st.integers(999, 1999), st.integers())
)
# One that is not itself (NaN) is in a set as often as it was made anew, and comes back once.
HASHABLE = st.recursive(
    ATOMS.filter(lambda atom: "nan" not in repr(atom)),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner),
    max_leaves=5,
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(HASHABLE, inner)
        | st.sets(HASHABLE)
    ),
    max_leaves=20,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from("tsfdbcio") | st.text(), inner, max_size=2)
        | st.dictionaries(st.sampled_from("tsfdbcio"), inner, min_size=1, max_size=1)
    ),
    max_leaves=20,
)
IDENTITY = "def f(x): return x"
STRANGE = [
    *(math.nan, math.inf, -math.inf, -0.0, 5e-324, 10**5000, -(2**1000), True, 1, 1.0, 1j),
    *("", "\ud800", "\udcff", "é\u0301\u202e\0\n", b"\xff\0", (), [], {}, set(), frozenset()),
    *((1,), [(1,)], {1: "a", "1": 2, (1, 2): []}, {1, "1", None}, {"t": [1]}, {"o": "x"}),
    *({True: 1}, [[[[[]]]]], complex(math.nan, -0.0), "x" * 100_000, list(range(10_000))),
]


@given(VALUES)
def test_values_cross_with_their_types(value: Any) -> None:
    again = decode(parse(dump(encode(value))))
    assert repr(again) == repr(value) or matches(value, encode(again))
    assert type(again) is type(value)


@given(JSON)
def test_hostile_encodings_do_no_harm(tree: Any) -> None:
    assert len(show(tree)) <= 200
    show(tree).encode("utf-8")
    assert matches(0.5, tree) is (tree == 0.5 and type(tree) is float)
    with contextlib.suppress(NotPlainDataError):
        decode(tree)


@given(st.binary(max_size=60))
def test_hostile_bytes_are_refused_or_read(data: bytes) -> None:
    with contextlib.suppress(NotPlainDataError):
        parse(data)


@pytest.mark.parametrize("value", STRANGE, ids=range(len(STRANGE)))
def test_strange_values_come_back(value: Any, sandbox: Sandbox) -> None:
    (answer,) = sandbox.run_calls(IDENTITY, [Call("f", (value,))]).calls
    assert answer.status == "returned"
    assert type(answer.value) is type(value)
    assert matches(value, answer.encoded)


@settings(deadline=None, max_examples=20, suppress_health_check=list(HealthCheck))
@given(values=st.lists(VALUES, min_size=3, max_size=10))
def test_values_come_back_from_a_program(warm_sandbox: Sandbox, values: list[Any]) -> None:
    answers = warm_sandbox.run_calls(IDENTITY, [Call("f", (value,)) for value in values]).calls
    for value, answer in zip(values, answers, strict=True):
        assert matches(value, answer.encoded)


@pytest.mark.parametrize(
    ("expected", "answer"),
    [
        *((1, True), (1, 1.0), (True, 1), (0, False), (1.0, 1), ([1], (1,)), ((1,), [1])),
        *(("1", 1), (b"a", "a"), ({1}, frozenset({1})), ({1}, [1]), ({}, set()), (None, 0)),
        *((math.nan, math.inf), ({1: 2}, {1: 2.0}), ([[]], [()]), (0j, 0), ("a", "a\0")),
    ],
)
def test_types_differ(expected: Any, answer: Any) -> None:
    assert not matches(expected, encode(answer))
    assert matches(expected, encode(expected))


def test_zero_has_no_sign_and_order_of_sets_does_not_count() -> None:
    assert matches(0.0, encode(-0.0))
    assert matches({1: 2, 3: 4}, encode({3: 4, 1: 2}))
    assert matches((1, 2), encode([1, 2]), tuples_are_lists=False) is False
    assert matches([1, [2]], encode((1, (2,))), tuples_are_lists=True)


DEEP = """
def lists(n):
    x = []
    for _ in range(n): x = [x]
    return x
def cycle():
    x = []
    x.append(x)
    return x
def bomb():
    x = []
    for _ in range(60): x = [x, x]
    return x
"""


@pytest.mark.parametrize(
    "call", [Call("lists", (500,)), Call("lists", (100_000,)), Call("cycle"), Call("bomb")]
)
def test_nested_answers_cost_the_host_nothing(call: Call, either_sandbox: Sandbox) -> None:
    (answer,) = either_sandbox.run_calls(DEEP, [call]).calls
    assert not matches([[]], answer.encoded)
    assert len(show(answer.encoded)) <= 200


def test_deep_forged_answers_are_compared_safely() -> None:
    for depth in (900, 20_000):
        tree: Any = 1
        for _ in range(depth):
            tree = [tree]
        assert not matches([1], tree)
        assert len(show(tree)) <= 200


@pytest.mark.parametrize(
    "written", [b"", b"\xff\xfe\0\x80", bytes(range(256)), "ünï\u202e\0".encode(), b"\r\n\r"]
)
def test_binary_output_and_input(written: bytes, sandbox: Sandbox) -> None:
    source = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())"
    assert sandbox.run_program(source, stdin=written).stdout == written
    text = "import sys; sys.stdin.reconfigure(newline=''); sys.stdout.write(sys.stdin.read())"
    assert sandbox.run_program(text, stdin=written).stdout == written


def test_surrogates_in_output_messages_and_names_become_readable(sandbox: Sandbox) -> None:
    source = """
def f(x):
    raise ValueError("\\ud800 and \\udcff")
"""
    exception = sandbox.run_calls(source, [Call("f", (1,))]).calls[0].exception
    assert exception is not None
    assert (exception.type, exception.message) == ("ValueError", "\\ud800 and \\udcff")
    assert sandbox.run_program("print('\\udcff')").stdout == b"\xff\n"
    traced = (
        "class A:\n    def __repr__(self): return '\\ud800'\ndef f(x):\n    y = A()\n    return x"
    )
    (call,) = sandbox.run_calls(traced, [Call("f", (1,))], trace_lines=4).calls
    json.dumps(call.trace, ensure_ascii=False).encode("utf-8")


@pytest.mark.parametrize(
    "body", ["raise KeyError(x)", "return 1 / 0", "return [].x", "assert x > 9"]
)
def test_exceptions_name_the_programs_lines(body: str, sandbox: Sandbox) -> None:
    source = f"def g(x):\n    {body}\ndef f(x):\n    return sorted([x], key=g)"
    exception = sandbox.run_calls(source, [Call("f", (1,))]).calls[0].exception
    assert exception is not None
    assert exception.lines == ((4, "f", "return sorted([x], key=g)"), (2, "g", body))


@pytest.mark.parametrize(
    "source",
    [
        "class E(Exception):\n    def __str__(self): raise ValueError\ndef f(x): raise E",
        "class E(Exception):\n    def __str__(self): return 5\ndef f(x): raise E",
        "class E(Exception):\n    def __str__(self): return 'x' * 10**8\ndef f(x): raise E",
        "class S(str):\n    def __getitem__(s, k): return s\nclass E(Exception):\n"
        "    def __str__(self): return S('x' * 10**6)\ndef f(x): raise E",
        "def f(x): raise ExceptionGroup('g', [ValueError(1)])",
        "def f(x):\n    raise KeyError from f",
    ],
)
def test_strange_exceptions(source: str, sandbox: Sandbox) -> None:
    (call,) = sandbox.run_calls(source, [Call("f", (1,))]).calls
    assert call.status == "raised"
    assert call.exception is not None
    assert len(call.exception.message) <= 500


class _Colour(enum.IntEnum):
    RED = 1


_Pair = collections.namedtuple("_Pair", "x y")
AS_BUILTIN: list[tuple[Any, Any]] = [
    (collections.Counter("aab"), {"a": 2, "b": 1}),
    (collections.OrderedDict(b=1, a=2), {"a": 2, "b": 1}),
    (collections.defaultdict(list, a=[1]), {"a": [1]}),
    (_Pair(1, (2,)), (1, (2,))),
    (_Colour.RED, 1),
    (type("Text", (str,), {"__eq__": lambda *_: True})("a"), "a"),
    (fractions.Fraction(1, 2), 0.5),
    (fractions.Fraction(4, 2), 2),
    (decimal.Decimal("0.25"), 0.25),
]


@pytest.mark.parametrize(("answer", "plain"), AS_BUILTIN, ids=range(len(AS_BUILTIN)))
def test_a_subclass_is_the_builtin_value(answer: Any, plain: Any) -> None:
    crossed = parse(dump(encode(answer)))
    assert matches(plain, crossed)
    assert not matches([plain], crossed)
    assert decode(crossed) == answer
    assert show(crossed)


@pytest.mark.parametrize(
    "value",
    [
        *(range(1, 9, 2), bytearray(b"a\0"), collections.deque([1, 2], 3), int, len, ValueError),
        *(datetime.date(2020, 1, 2), datetime.timedelta(1, 2, 3), decimal.Decimal("1e999999")),
        *(datetime.datetime(2020, 1, 2, 3, 4, 5, 6), array.array("i", [1, 2]), {1: 2}.keys()),
    ],
)
def test_known_classes_cross(value: Any) -> None:
    again = decode(parse(dump(encode(value))))
    assert again == value
    assert type(again) is type(value)


def test_numbers_of_json_are_one() -> None:
    for expected, answer in ((2, 2.0), (2.0, 2), ([1], [True]), ({"a": 1.0}, {"a": 1}), (0, -0.0)):
        assert not matches(expected, encode(answer)) or expected == 0
        assert matches(expected, encode(answer), numbers_are_one=True)
    for expected, answer in ((2, 2.5), ("2", 2), (10**17, 1e17 + 32), (None, 0), (2**60, 2.0**61)):
        assert not matches(expected, encode(answer), numbers_are_one=True)


def _nested(leaf: Any, depth: int, tag: str) -> Any:
    for _ in range(depth):
        leaf = {"d": [[0, leaf]]} if tag == "d" else {tag: [leaf]}
    return leaf


@pytest.mark.parametrize("tag", ["d", "s", "f", "t"])
def test_comparing_and_showing_cost_what_is_asked_for(tag: str) -> None:
    """Work is counted in calls and not in time."""
    tree = _nested([0] * 200_000, 150, tag)
    calls = 0

    def profile(*_: Any) -> None:
        nonlocal calls
        calls += 1

    for work in (lambda: matches([5], tree), lambda: matches(5, tree), lambda: show(tree)):
        calls = 0
        sys.setprofile(profile)
        try:
            work()
        finally:
            sys.setprofile(None)
        assert calls < 20_000
    # An expected value of this depth costs each of its parts once.
    expected = decode(_nested([1] * 500, 150, "t"))
    calls = 0
    sys.setprofile(profile)
    try:
        assert matches(expected, encode(expected))
    finally:
        sys.setprofile(None)
    assert calls < 100_000


@pytest.mark.parametrize(
    "tree",
    [
        {"C": ["Fraction", {"i": "0x" + "7" * 500_000}, {"i": "0x" + "3" * 500_000}]},
        {"C": ["Decimal", "1e999999999"]},
        {"C": ["Decimal", "0." + "1" * 900_000]},
        {"C": ["Decimal", "nan"]},
        {"C": ["Counter", 5]},
        {"C": ["namedtuple", "P", ["x"], 5]},
        {"C": []},
        {"C": 5},
        {"B": ["x"]},
        {"d": [[1]]},
        {"d": [1]},
        {"i": "9" * 10},
        {"m": [1, 2]},
        {"p": 1},
        {"o": 1},
        {"x": 1},
        {"anything": 1},
        {"": 1},
        {"l": []},
    ],
)
def test_forged_classes_are_no_answers(tree: Any) -> None:
    for expected in (1, 0.5, [], {}, (1,)):
        assert not matches(expected, tree)
    assert len(show(tree)) <= 200
