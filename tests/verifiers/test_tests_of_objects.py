"""Assert-style tests that use more of a program than one function: its classes, objects, generators
and exceptions, helpers of the prompt, setup that needs the program; and what none of it forges."""

from typing import Any

import pytest
from code_problems import feedback_text, verify

from distil_core.errors import VerifierError
from distil_core.verifiers.base import Verification


def judge(code: str, *tests: str, **metadata: Any) -> Verification:
    shown = [{"code": test, "public": True} for test in tests]
    return verify("assert_tests", code, {"entry_point": "f", "tests": shown, **metadata})


NODE = """
class Node:
    def __init__(self, value):
        self.value = value
        self.left = self.right = None
def f(root):
    return 0 if root is None else 1 + max(f(root.left), f(root.right))
"""
VECTOR = """
class V:
    def __init__(self, x): self.x = x
    def __eq__(self, other): return self.x == other.x
    def __add__(self, other): return V(self.x + other.x)
    def scaled(self, by): return V(by * self.x)
def f(x): return V(x)
"""
COLOUR = "from enum import Enum\nclass C(Enum):\n    RED = 1\ndef f(): return C.RED"
NAMED = """
from typing import NamedTuple
class P(NamedTuple):
    x: int
    def doubled(self): return 2 * self.x
def f(x): return P(x)
"""
STACK = "class S(list):\n    def push(self, x): self.append(x)\ndef f(): return S()"
OWN_ERROR = "class E(ValueError): pass\ndef f(x): raise E('no', 3)"
RIGHT = {
    "Counter": (
        "from collections import Counter\ndef f(s): return Counter(s)",
        "assert f('aab') == {'a': 2, 'b': 1} and f('aab').most_common(1) == [('a', 2)]",
    ),
    "defaultdict": (
        "from collections import defaultdict\ndef f(s):\n    d = defaultdict(list)\n"
        "    d['k'].append(s)\n    return d",
        "assert f(1) == {'k': [1]} and f(1)['other'] == []",
    ),
    "OrderedDict": (
        "from collections import OrderedDict\ndef f(s): return OrderedDict(k=s)",
        "assert f(1) == {'k': 1}",
    ),
    "namedtuple": (
        "from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef f(s): return P(s, s)",
        "assert f(1) == (1, 1) and f(1).y == 1",
    ),
    "NamedTuple": (NAMED, "r = f(2)\nassert r == (2,) and r.doubled() == 4"),
    "IntEnum": (
        "from enum import IntEnum\nclass E(IntEnum):\n    A = 1\ndef f(s): return E.A",
        "assert f(1) == 1 and f(1).name == 'A'",
    ),
    "Enum": (COLOUR, "assert f() == C.RED and f() is C['RED'] and list(C) == [f()]"),
    "Fraction": (
        "from fractions import Fraction\ndef f(s): return Fraction(1, s)",
        "assert f(2) == 0.5 and f(3).denominator == 3",
    ),
    "Decimal": ("import decimal\ndef f(s): return decimal.Decimal(s)", "assert f('0.5') == 0.5"),
    "date": (
        "import datetime\ndef f(): return datetime.date(2020, 1, 2)",
        "import datetime\nassert f() == datetime.date(2020, 1, 2)",
    ),
    "range": ("def f(n): return range(n)", "assert f(3) == range(3) and list(f(2)) == [0, 1]"),
    "deque": (
        "from collections import deque\ndef f(n): return deque([n], maxlen=2)",
        "from collections import deque\nassert f(3) == deque([3]) and f(3).maxlen == 2",
    ),
    "views": ("def f(d): return d.keys()", "assert f({'a': 1}) == {'a'}"),
    "generator": ("def f(s):\n    yield s", "assert list(f(1)) == [1]"),
    "endless generator": (
        "import itertools\ndef f(): return itertools.count()",
        "from itertools import islice\nassert list(islice(f(), 3)) == [0, 1, 2]",
    ),
    "map": ("def f(s): return map(int, s)", "assert sum(f('123')) == 6"),
    "closure": ("def f(n): return lambda x: x + n", "assert f(2)(3) == 5"),
    "coroutine": (
        "async def f(x): return x + 1",
        "import asyncio\nassert asyncio.run(f(1)) == 2",
    ),
    "context manager": (
        "import contextlib\n@contextlib.contextmanager\ndef f(): yield 3",
        "with f() as x:\n    assert x == 3",
    ),
    "type": (
        "def f(x, kind): return not isinstance(x, kind)",
        "assert f(1, str) and not f(1, int)",
    ),
    "type returned": ("def f(x): return type(x)", "assert f(1) is int"),
    "builtin function": ("def f(g, x): return g(x)", "assert f(len, [1]) == 1"),
    "object": (NODE, "root = Node(1)\nroot.left = Node(2)\nassert f(root) == 2"),
    "equal objects": (VECTOR, "assert f(1) == V(1) and f(1) != V(2) and (f(1) + f(2)).x == 3"),
    "method": (VECTOR, "assert f(2).scaled(3).x == 6 and isinstance(f(2), V)"),
    "list of its own": (STACK, "s = f()\ns.push(1)\nassert s == [1] and len(s) == 1"),
    "own exception": (
        OWN_ERROR,
        "try:\n    f(1)\n    assert 0\nexcept E as e:\n    assert e.args[1] == 3",
    ),
    "base of an exception": (
        OWN_ERROR,
        "try:\n    f(1)\n    assert 0\nexcept ValueError:\n    pass",
    ),
    "exception of a library": (
        "import json\ndef f(s): return json.loads(s)",
        "import json\ntry:\n    f('{')\n    assert 0\nexcept json.JSONDecodeError:\n    pass",
    ),
    "object of the test's class": (
        "def f(n): return n.value + (f(n.next) if n.next else 0)",
        "class N:\n    next = None\n    def __init__(self, v): self.value = v\n"
        "n = N(1)\nn.next = N(2)\nassert f(n) == 3",
    ),
    "array": ("def f(a): return a[0]", "from array import array\nassert f(array('i', [4])) == 4"),
    "module without import": (
        "from math import floor as f",
        "assert f(1.5) == math.floor(1.5)",
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_program_is_judged_right(name: str) -> None:
    code, test = RIGHT[name]
    result = judge(code, test)
    assert result.verdict == "correct", feedback_text(result)


BROKEN = {
    "Counter": ("Counter(s)", "Counter(s + 'a')"),
    "generator": ("yield s", "yield s + 1"),
    "closure": ("x + n", "x - n"),
    "object": ("1 + max", "2 + max"),
    "equal objects": ("return V(x)", "return V(x + 1)"),
    "own exception": ("'no', 3", "'no', 4"),
    "exception of a library": ("json.loads(s)", "1 / 0"),
    "type": ("return not isinstance", "return isinstance"),
    "Enum": ("return C.RED", "return 1"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_one_is_not(name: str) -> None:
    code, test = RIGHT[name]
    assert BROKEN[name][0] in code
    assert judge(code.replace(*BROKEN[name]), test).verdict == "wrong"


def test_setup_may_use_the_program() -> None:
    setup = "root = Node(1)\nroot.left = Node(2)\nroot.left.right = Node(3)"
    tests = ("assert f(root) == 3", "assert f(root.left) == 2")
    assert judge(NODE, *tests, setup=setup).verdict == "correct"
    result = judge(NODE.replace("self, value", "self"), *tests, setup=setup)
    assert result.verdict == "wrong"
    assert "Node(1) raised TypeError" in feedback_text(result)


def test_a_program_that_ends_loses_no_object_of_the_next_test() -> None:
    ending = (
        "import os\ng = f\ndef f(root):\n    if root and root.value == 2: os._exit(0)\n"
        "    return g(root)"
    )
    code = f"{NODE}\n{ending}"
    tests = ("assert f(root) == 1", "assert f(Node(2)) == 1", "assert f(root) == 1")
    result = judge(code, *tests, setup="root = Node(1)")
    assert feedback_text(result).startswith("2 of 3 tests passed.")


def test_helpers_of_the_preamble_are_there_for_program_and_tests() -> None:
    preamble = (
        "def encode(s):\n    return s[::-1]\nclass P:\n    def __init__(self, a): self.a = a\n"
    )
    code = "def f(p): return encode(p.a)"
    test = "p = P('ab')\nassert f(p) == encode('ab') == 'ba'"
    assert judge(code, test, preamble=preamble).verdict == "correct"
    # The tests' own helper is the prompt's, whatever the program makes of it.
    lie = "def encode(s): return 0\ndef f(p): return 0"
    assert judge(lie, test, preamble=preamble).verdict == "wrong"


def test_imports_of_the_setup_are_there_for_the_program() -> None:
    code = "def f(x): return math.floor(x)"
    assert judge(code, "assert f(1.5) == 1", setup="import math").verdict == "correct"


def test_numpy_where_it_is_installed() -> None:
    pytest.importorskip("numpy")
    code = "import numpy as np\ndef f(n): return np.arange(n) * np.int64(2)"
    test = "import numpy as np\nassert (f(3) == np.array([0, 2, 4])).all() and f(3)[1] == 2"
    limits = {"cpu_time_s": 5, "wall_time_s": 60, "memory_mb": 800}
    metadata = {"entry_point": "f", "tests": [{"code": test}]}
    assert verify("assert_tests", code, metadata, limits=limits).verdict == "correct"
    with pytest.raises(VerifierError, match="No module named 'numpy'"):
        verify("assert_tests", "def f(n): return 1", metadata, packages=[])


LIES = {
    "a number that computes": (
        "class A(float):\n    def __sub__(s, o): return 0.0\n    __rsub__ = __sub__\n"
        "    def __abs__(s): return 0.0\n    def __lt__(s, o): return True\ndef f(x): return A(9)"
    ),
    "an object that computes": (
        "class A:\n    def __sub__(s, o): return 0.0\n    def __eq__(s, o): return True\n"
        "    def __hash__(s): return hash(2)\n    def __contains__(s, o): return True\n"
        "    def __abs__(s): return 0.0\n    def __lt__(s, o): return True\n"
        "    def __float__(s): return 2.0\n    def __int__(s): return 2\n"
        "    def __index__(s): return 2\n    def __round__(s, n=0): return 2\ndef f(x): return A()"
    ),
    "the end of an iteration": "def f(x): raise StopIteration",
    "an end of its own": "class E(StopIteration): pass\ndef f(x): raise E",
    "the end of another": "def f(x): raise StopAsyncIteration",
    "the end of a generator": "def f(x): raise GeneratorExit",
    "an interrupt": "def f(x): raise KeyboardInterrupt",
    "an exit": "def f(x): raise SystemExit(0)",
    "a skipped test": "import unittest\ndef f(x): raise unittest.SkipTest('no')",
    "a class by another's name": "class ValueError(Exception): pass\ndef f(x): raise ValueError",
}
SECOND_TESTS = [
    "assert f(1) == 2",
    "assert abs(f(1) - 2) < 1e-6",
    "assert abs(2 - f(1)) < 1e-6",
    "assert f(1) in {2}",
    "assert 2 in [f(1)]",
    "assert 2 in f(1)",
    "assert round(f(1), 2) == 2",
    "assert int(f(1)) == 2 and float(f(1)) == 2",
    "import math\nassert math.isclose(f(1), 2)",
    "assert all(map(lambda p: f(p[0]) == p[1], [(1, 2), (2, 4)]))",
    "for got, want in zip(map(f, [1, 2]), [2, 4]):\n    assert got == want",
    "assert all(f(x) == 2 * x for x in [1, 2])",
    "try:\n    f(1)\n    assert 0\nexcept __import__('builtins').ValueError:\n    pass",
    "import unittest\nclass T(unittest.TestCase):\n    def test(self): self.assertEqual(f(1), 2)\n"
    "result = unittest.TestResult()\nT('test').run(result)\n"
    "assert result.wasSuccessful() and not result.skipped",
]


@pytest.mark.parametrize("lie", LIES)
def test_what_a_program_says_of_itself_does_not_count(lie: str) -> None:
    result = judge(LIES[lie], *SECOND_TESTS)
    assert feedback_text(result).startswith(f"0 of {len(SECOND_TESTS)} tests passed."), (
        feedback_text(result)
    )


@pytest.mark.parametrize(
    ("code", "tests", "said"),
    [
        ("def f(x): return 1", ("assert f(1) == 1\nassert g(2)",), "'g' is defined neither"),
        ("def f(x): return x", ("y = f(1)", "assert y == 1"), "'y' is defined neither"),
    ],
)
def test_a_name_that_nobody_defines_is_the_tests_fault(
    code: str, tests: tuple[str, ...], said: str
) -> None:
    with pytest.raises(VerifierError, match=said):
        judge(code, *tests)


def test_a_name_that_the_program_kept_a_test_from_defining_is_not() -> None:
    test = "try:\n    r = f(1)\nexcept ValueError:\n    pass\nassert r == 2"
    assert judge("def f(x): raise ValueError", test).verdict == "wrong"
    # Nor is one that the problem says the program has to define.
    result = judge("def f(p): return p.a", "assert f(P(1)) == 1", entry_point=["f", "P"])
    assert "the program defines no 'P'" in feedback_text(result)


@pytest.mark.parametrize(
    "value",
    [
        "type('T', (), {'__class__': property(lambda s: 1 / 0)})()",
        "type('T', (type,), {'__getattribute__': lambda s, n: 1 / 0})('C', (), {})",
        "[10**6] * 10**7",
    ],
)
def test_a_strange_global_is_the_programs_fault(value: str) -> None:
    code = f"P = {value}\ndef f(x): return 1"
    assert judge(code, "assert P == f(1)").verdict == "wrong"


def test_objects_tell_no_hidden_input() -> None:
    code = (
        "class A:\n    def __init__(s, x): s.x = x\n    def __repr__(s): return str(s.x)\n"
        "def f(x): return A(x)"
    )
    result = verify(
        "assert_tests",
        code,
        {"entry_point": "f", "tests": [{"code": "assert f(7770).x == 23311"}]},
    )
    assert "7770" not in feedback_text(result)
    assert "23311" not in feedback_text(result)
