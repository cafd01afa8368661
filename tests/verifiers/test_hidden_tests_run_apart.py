"""What a hidden test hands the program never reaches what feedback tells of a public one."""

from typing import Any

import pytest
from code_metadata import asserts, calls, text, verify

SECRET = "982451653"
PROGRAMS = [
    "seen = []\ndef f(x):\n    seen.append(x)\n    return seen",
    "seen = []\ndef f(x):\n    seen.append(x)\n    if x == 1: raise ValueError(f'seen {seen}')",
    "import sys\ndef f(x):\n    sys.seen = getattr(sys, 'seen', ()) + (x,)\n    print(sys.seen)\n"
    "    raise KeyError(sys.seen)",
    "def f(x):\n    with open('seen', 'a+') as file:\n        print(x, file=file)\n"
    "        file.seek(0)\n        return file.read()",
    "import os\nseen = []\ndef f(x):\n    seen.append(x)\n"
    "    if x != 1 and len(seen) > 1: os._exit(0)\n    return seen",
    "seen = []\ndef f(x):\n    seen.append(x)\n    class A:\n"
    "        def __repr__(self): return str(seen)\n    y = A()\n    return y",
]
PUBLIC_CALL, HIDDEN_CALL = ("(1,)", "2", True), (f"({SECRET},)", "7340033", False)
PUBLIC_TEST, HIDDEN_TEST = ("assert f(1) == 2", True), (f"assert f({SECRET}) == 7340033", False)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    ("name", "metadata"),
    [
        ("function_calls", calls(HIDDEN_CALL, PUBLIC_CALL)),
        ("function_calls", calls(PUBLIC_CALL, HIDDEN_CALL, PUBLIC_CALL)),
        ("assert_tests", asserts(HIDDEN_TEST, PUBLIC_TEST)),
        ("assert_tests", asserts(PUBLIC_TEST, HIDDEN_TEST, PUBLIC_TEST)),
    ],
)
def test_a_public_test_does_not_tell_of_a_hidden_one(
    name: str, metadata: Any, program: str
) -> None:
    result = verify(name, metadata, program)
    assert result.verdict == "wrong"
    assert SECRET not in text(result)
    assert "7340033" not in text(result)


def test_tests_keep_their_numbers() -> None:
    metadata = calls(("(5,)", "5", False), ("(1,)", "2", True), ("(6,)", "7", False))
    told = text(verify("function_calls", metadata, "def f(x): return x"))
    assert "1 of 3 tests passed." in told
    assert "test 2: f(1) returned 1, expected 2" in told
    assert "test 3 (hidden): wrong answer" in told


def test_all_run_together_where_all_may_be_told() -> None:
    metadata = calls(("()", "1", False), ("()", "2", True), ("()", "3", False))
    counts = "n = 0\ndef f():\n    global n\n    n += 1\n    return n"
    assert verify("function_calls", metadata, counts, "expected_outputs").verdict == "correct"
    assert verify("function_calls", metadata, counts).verdict == "wrong"
