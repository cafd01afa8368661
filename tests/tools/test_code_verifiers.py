"""Verdicts and feedback of the verifiers that run a response's code, in the real sandbox."""

import json
from typing import Any

import pytest
from code_problems import asserts, calls, programs, text, verify

from distil_core.errors import VerifierError

DOUBLE = "def f(x):\n    return 2 * x\n"
CALLS = calls(("(1,)", "2", True), ("(3,)", "6", False))
ASSERTS = asserts(("assert f(1) == 2", True), ("assert candidate(3) == 6", False))
PROGRAMS = programs(("1\n", "2\n", True), ("3\n", "6\n", False))
KINDS: list[tuple[str, Any, str]] = [
    ("function_calls", CALLS, "def f(x):\n    {}\n"),
    ("assert_tests", ASSERTS, "def f(x):\n    {}\n"),
    ("stdin_programs", PROGRAMS, "def f(x):\n    {}\nprint(f(int(input())))\n"),
]
every = pytest.mark.parametrize(("name", "metadata", "frame"), KINDS, ids=[k[0] for k in KINDS])


@every
@pytest.mark.parametrize("fence", ["{}", "Text.\n```python\n{}```\nMore.", "~~~\n{}~~~"])
def test_right(name: str, metadata: Any, frame: str, fence: str) -> None:
    result = verify(name, metadata, fence.format(frame.format("return 2 * x")))
    assert (result.reward, result.verdict) == (1.0, "correct")
    assert text(result) == "2 of 2 tests passed."
    assert result.isolation == "bubblewrap_zygote"


@every
def test_partly_right(name: str, metadata: Any, frame: str) -> None:
    response = frame.format("return 2 if x == 1 else 77123")
    assert verify(name, metadata, response).reward == 0.0
    result = verify(name, metadata, response, reward="fraction")
    assert (result.reward, result.verdict) == (0.5, "wrong")
    assert "1 of 2 tests passed." in text(result)
    assert "test 2 (hidden): wrong" in text(result)
    assert "77123" not in text(result)
    told = text(verify(name, metadata, response, reveal="expected_outputs"))
    assert "77123" in told
    assert "6" in told


@every
@pytest.mark.parametrize(
    "response", ["def f(:\n", "", "```python\ndef f(x): 1", "I think it is 7."]
)
def test_malformed(name: str, metadata: Any, frame: str, response: str) -> None:
    result = verify(name, metadata, response)
    assert (result.reward, result.verdict) == (0.0, "malformed")


@every
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return 1 // 0", "ZeroDivisionError"),
        ("while True: pass", "timed out: more than 0.5 s of CPU time"),
        ("return [0] * 10**9", "MemoryError"),
        ("import ctypes; ctypes.string_at(0)", ""),
        ("import os; os._exit(0)", ""),
        ("import sys; sys.exit(0)", ""),
        ("print('z' * 10**6)", "printed more than 64 KB"),
        ("def g(n): return g(n)\n    return g(1)", "RecursionError"),
    ],
)
def test_failures_are_wrong_and_told_shortly(
    name: str, metadata: Any, frame: str, body: str, said: str
) -> None:
    result = verify(name, metadata, frame.format(body))
    assert (result.reward, result.verdict) == (0.0, "wrong")
    assert said in text(result)
    assert len(text(result)) < 3000


@every
def test_a_trace_holds_the_responses_own_lines_alone(name: str, metadata: Any, frame: str) -> None:
    told = text(verify(name, metadata, frame.format("y = {}\n    return y['k']")))
    assert "in f: return y['k']" in told
    for foreign in ("harness", "inside", "exec(", "zygote", "/distil"):
        assert foreign not in told


@every
@pytest.mark.parametrize(
    "metadata_", [{}, {"tests": []}, {"tests": 5}, {"tests": [{"code": 3}]}, [1]]
)
def test_no_tests_is_an_error(name: str, metadata: Any, frame: str, metadata_: Any) -> None:
    with pytest.raises(VerifierError, match="are no tests"):
        verify(name, metadata_, DOUBLE)


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


@pytest.mark.parametrize(
    ("comparison", "printed", "passes"),
    [
        *(("lines", "2 \n\n", True), ("lines", "2\n3", False), ("tokens", " 2\n", True)),
        *(("exact", "2\n", True), ("exact", "2", False), ("lines", " 2", False)),
    ],
)
def test_comparison_of_output(comparison: str, printed: str, passes: bool) -> None:
    response = f"print({printed!r}, end='')"
    result = verify("stdin_programs", programs(("", "2\n", True)), response, comparison=comparison)
    assert (result.verdict == "correct") is passes
