from typing import Any

import pytest
from code_problems import feedback_text, verify

from distil_core.errors import VerifierError

RIGHT = "def f(x):\n    return 3 * x + 1"


def judge(code: str, *tests: str, **metadata: Any) -> Any:
    shown = [{"code": test, "public": True} for test in tests]
    return verify("assert_tests", code, {"entry_point": "f", "tests": shown, **metadata})


def test_check_functions_like_those_of_humaneval() -> None:
    check = "def check(candidate):\n    assert candidate(1) == 4\n    assert candidate(2) == 7"
    assert judge(RIGHT, "check(f)", setup=check).verdict == "correct"
    result = judge("def f(x):\n    return 4", "check(f)", setup=check)
    assert result.verdict == "wrong"
    assert "f(2) returned 4" in feedback_text(result)


def test_tests_of_several_functions() -> None:
    code = "def f(x): return x\ndef g(x): return -x"
    assert judge(code, "assert f(g(1)) == -1", entry_point=["f", "g"]).verdict == "correct"


@pytest.mark.parametrize(
    "lie",
    [
        "class A:\n    def __eq__(self, other): return True\ndef f(x): return A()",
        "class A(int):\n    def __eq__(self, other): return True\ndef f(x): return A(0)",
        "import builtins\nbuiltins.AssertionError = None\ndef f(x): return 0",
        "import sys\nsys.exit = lambda *_: None\ndef f(x): sys.exit(0)",
        "import os\ndef f(x): os._exit(0)",
        "import inspect\ndef f(x):\n    for frame in inspect.stack(): frame.frame.f_locals.clear()",
        "import gc\ndef f(x):\n    return [o for o in gc.get_objects() if o == 23311][:1] or 0",
        "from unittest.mock import ANY\ndef f(x): return ANY",
        "def f(x): raise SystemExit(0)",
        "def f(x): raise KeyboardInterrupt",
        "def f(x): yield 4",
        "def f(x): return lambda *_: True",
        "import sys, types\nsys.modules['tests'] = types.ModuleType('tests')\ndef f(x): return 0",
        "def check(candidate): pass\ndef f(x): return 0",
    ],
)
@pytest.mark.parametrize(
    "test",
    [
        "assert f(7770) == 23311",
        "assert 23311 == f(7770)",
        "assert not f(7770) != 23311",
        "assert f(7770) in (23311, 5.5)",
    ],
)
def test_a_program_that_lies_gets_nowhere(lie: str, test: str) -> None:
    assert judge(lie, test).verdict == "wrong"


@pytest.mark.parametrize(
    "setup",
    [
        "import builtins\nbuiltins.len = lambda x: 1 / 0\nbuiltins.print = None",
        "from unittest import mock\nmock.patch('builtins.open', None).start()",
        "import sys\nsys.modules.clear()",
        "import os\nos.environ.clear()\nos.write = None",
        "import json\njson.dumps = lambda *_: 1 / 0",
    ],
)
def test_a_test_that_patches_reaches_only_itself(setup: str) -> None:
    code = "import os, json\ndef f(x):\n    print('x')\n    return len(json.dumps([1] * x))"
    assert judge(code, "assert f(2) == 6", setup=setup).verdict == "correct"


def test_what_the_program_raises_can_be_expected() -> None:
    code = "def f(x):\n    raise ValueError('no')"
    test = "try:\n    f(1)\nexcept ValueError as e:\n    assert str(e) == 'no'\nelse:\n    assert 0"
    assert judge(code, test).verdict == "correct"
    assert judge(code.replace("ValueError", "TypeError"), test).verdict == "wrong"


def test_a_test_that_catches_everything_does_not_pass_a_dead_program() -> None:
    code = "import os\ndef f(x): os._exit(0)"
    test = "try:\n    f(1)\nexcept BaseException:\n    pass"
    assert judge(code, test).verdict == "wrong"


def test_a_test_that_ends_the_process_costs_the_others_nothing() -> None:
    code = "import os\ndef f(x):\n    if x == 1: os._exit(0)\n    return x"
    result = judge(code, "assert f(0) == 0", "assert f(1) == 1", "assert f(2) == 2")
    assert feedback_text(result).startswith("2 of 3 tests passed.")


def test_a_test_of_many_calls_has_one_time_limit() -> None:
    code = "def f(x):\n    return sum(range(400_000))"
    result = judge(code, "for n in range(10_000):\n    f(n)")
    assert "timed out" in feedback_text(result)


def test_exact_data_crosses() -> None:
    code = "def f(x): return x"
    value = "{'a': (1, 2.5, {3}), 'b': [None, True, b'\\xff', '\\ud800', 2**2000, 1j]}"
    assert (
        judge(code, f"v = {value}\nassert f(v) == v and f([(1,)]) == [(1,)]").verdict == "correct"
    )


@pytest.mark.parametrize(
    ("test", "setup", "match"),
    [
        ("assert f(lambda: 1) == 1", "", "hands the program"),
        ("assert undefined(1)", "", "NameError without a call"),
        ("assert f(1) ==", "", "is no Python .SyntaxError"),
        ("import os; os._exit(0)", "", "ended without a call"),
        ("while True: pass", "", "cpu_timeout"),
        ("assert f(1) == 4", "import missing_module", "setup"),
        ("assert f(1) == 4", "import os; os._exit(0)", "setup"),
    ],
)
def test_a_broken_test_is_no_wrong_answer(test: str, setup: str, match: str) -> None:
    with pytest.raises(VerifierError, match=match):
        judge(RIGHT, test, setup=setup)
