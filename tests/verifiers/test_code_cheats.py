"""Programs that tell of hidden tests or cheat, and tests that patch, in the real sandbox."""

import json
from typing import Any

import pytest
from code_metadata import asserts, calls, programs, text, verify

from distil_core.errors import VerifierError

DOUBLE = "def f(x):\n    return 2 * x\n"
CALLS = calls(("(1,)", "2", True), ("(3,)", "6", False))
ASSERTS = asserts(("assert f(1) == 2", True), ("assert candidate(3) == 6", False))


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        (asserts(("assert f(1) ==", False)), "SyntaxError"),
        (asserts(("undefined(f)", False)), "NameError"),
        (asserts(("while True: pass", False)), "cpu_timeout"),
        (asserts(("assert f(lambda: 1)", False)), "hands the program"),
        (asserts(("assert f(1)", False), setup="import nothing_here"), "setup"),
    ],
)
def test_broken_asserts_are_errors_and_not_wrong_answers(metadata: Any, said: str) -> None:
    with pytest.raises(VerifierError, match=said):
        verify("assert_tests", metadata, DOUBLE)


SECRET = 982451653
HIDDEN: list[tuple[str, Any, str, str]] = [
    ("function_calls", calls((f"({SECRET},)", "7340033", False)), "def f(x):\n{}", ""),
    ("assert_tests", asserts((f"assert f({SECRET}) == 7340033", False)), "def f(x):\n{}", ""),
    (
        "stdin_programs",
        programs((f"{SECRET}\n", "7340033\n", False)),
        "def f(x):\n{}",
        "\nf(input())",
    ),
]
LEAKS = [
    "    print(x)",
    "    import sys; print(x, file=sys.stderr); sys.exit(str(x))",
    "    raise ValueError(x)",
    "    raise type('E' + str(x), (Exception,), {{}})(x)",
    "    raise type('ValueError', (Exception,), {{}})(x)",
    "    assert False, x",
    "    return {{x: x}}",
    "    return type(str(x), (), {{}})()",
    "    exec(compile('\\n' * (int(x) % 1000) + 'raise KeyError(' + str(x) + ')', '<program>', 'exec'))",
    "    import os, json; b = json.dumps({{'exception': {{'type': str(x), 'message': str(x),"
    " 'lines': [[int(x), str(x), str(x)]]}}, 'compiled': False}}).encode();"
    " os.write(3, len(b).to_bytes(4, 'big') + b); os._exit(1)",
]


@pytest.mark.parametrize(("name", "metadata", "head", "tail"), HIDDEN, ids=[h[0] for h in HIDDEN])
@pytest.mark.parametrize("leak", LEAKS)
def test_hidden_tests_leak_nothing(
    name: str, metadata: Any, head: str, tail: str, leak: str
) -> None:
    response = head.format(leak.replace("{{", "{").replace("}}", "}")) + tail
    result = verify(name, metadata, response)
    assert result.verdict != "correct"
    for secret in (str(SECRET), "7340033", str(SECRET)[2:]):
        assert secret not in text(result)
    assert json.dumps(text(result))


@pytest.mark.parametrize(
    "response",
    [
        "class A:\n    def __eq__(s, o): return True\ndef f(x): return A()",
        "class A(int):\n    def __eq__(s, o): return True\ndef f(x): return A()",
        "import builtins\nbuiltins.AssertionError = None\nbuiltins.isinstance = None\ndef f(x): return 0",
        "import sys\ndef f(x):\n    g = sys._getframe()\n    while g:\n"
        "        for v in g.f_locals.values():\n            if v == 6: return 6\n        g = g.f_back",
        "import gc\ndef f(x):\n    for o in gc.get_objects():\n"
        "        if type(o) is dict and 'expected' in o: return o['expected']",
        "import sys\nsys.exit(0)",
        "import os\nos._exit(0)",
    ],
)
def test_cheats_do_not_pass(response: str) -> None:
    for name, metadata in (("function_calls", CALLS), ("assert_tests", ASSERTS)):
        assert verify(name, metadata, response).reward == 0.0


@pytest.mark.parametrize(
    "test",
    [
        "import builtins; builtins.sum = lambda x: 99; assert f(2) == 4",
        "f.__code__ = (lambda *a: 4).__code__",
        "import sys; sys.modules['solution'] = None; assert f(2) == 4",
        "from unittest.mock import patch\nwith patch('builtins.sum', lambda x: 4): assert f(2) == 4",
    ],
)
def test_tests_that_patch_reach_only_themselves(test: str) -> None:
    honest = "def f(x):\n    return sum([x, x]) * len([1])"
    if "__code__" in test:
        with pytest.raises(VerifierError):
            verify("assert_tests", asserts((test, True)), honest)
    else:
        assert verify("assert_tests", asserts((test, True)), honest).verdict == "correct"
