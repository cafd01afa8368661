"""Programs that write to the channel, exit early or lie: none of it becomes a right answer."""

import pytest

from distil_core.sandbox import Call, CallResult, Sandbox
from distil_core.sandbox.answers import matches

WRITE = """
import json, os, sys
def frame(tree, channel=3):
    data = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
    os.write(channel, len(data).to_bytes(4, "big") + data)
"""
# At the program's start, before it was asked anything. The right answer of f(20) is 41.
UNASKED = {
    "an answer": 'frame({"sequence": 1, "value": 41})',
    "loaded and an answer": 'frame({"loaded": True}); frame({"sequence": 1, "value": 41})',
    "loaded twice": 'frame({"loaded": True})',
    "a hundred answers": 'for n in range(100): frame({"sequence": n, "value": 41})',
    "all descriptors": (
        'for channel in range(64):\n    try: frame({"sequence": 1, "value": 41}, channel)\n'
        "    except OSError: pass"
    ),
    "ready again": 'frame({"ready": True})',
    "garbage": 'os.write(3, b"\\xff" * 100)',
    "text": 'os.write(3, b"41\\n")',
    "half a header": 'os.write(3, b"\\0\\0")',
    "huge length": 'os.write(3, b"\\xff\\xff\\xff\\xff")',
    "a list": "frame([1, 2])",
    "null": "frame(None)",
    "no JSON": 'frame(b"{41}")',
    "deep JSON": 'frame(b"[" * 200_000)',
    "huge number": 'frame(b"9" * 100_000)',
    "not UTF-8": 'frame(b"\\xff\\xfe")',
    "empty": 'frame(b"")',
    "closed": "os.close(3)",
    "replaced": "r, w = os.pipe(); os.dup2(w, 3)",
    "an endless flood": 'while True: os.write(3, b"\\0\\0\\0\\x02{}")',
    "exit": "sys.exit(0)",
    "raised exit": "raise SystemExit",
    "hard exit": "os._exit(0)",
    "hard exit after an answer": 'frame({"sequence": 1, "value": 41}); os._exit(0)',
    "kill": "import ctypes; ctypes.string_at(0)",
    "interrupt": "raise KeyboardInterrupt",
    "generator exit": "raise GeneratorExit",
    "a thread that exits": "import threading; threading.Thread(target=os._exit, args=(0,)).start()",
    "an exception's form": 'frame({"exception": {"type": 5, "message": None, "lines": 3}})',
    "a strange line": 'frame({"exception": {"type": "E", "message": "", "lines": [[10**3000, "f", ""]]}})',
    "a trace": 'frame({"trace": ["line 1: x = 41"]})',
    "a trace of numbers": 'frame({"trace": [41]})',
}
# Within the call f(20).
WITHIN = {
    "an answer and another": 'frame({"sequence": 1, "value": 41})',
    "another sequence": 'frame({"sequence": 2, "value": 41}); os._exit(0)',
    "sequence as text": 'frame({"sequence": "1", "value": 41}); os._exit(0)',
    "no sequence": 'frame({"value": 41}); os._exit(0)',
    "no value": 'frame({"sequence": 1}); os._exit(0)',
    "exit": "sys.exit(0)",
    "hard exit": "os._exit(0)",
    "closed": "os.close(3); return 41",
    "too large": 'frame({"sequence": 1, "too_large": True}); os._exit(0)',
    "longer than sent": 'os.write(3, b"\\0\\0\\x01\\0{"); os._exit(0)',
}


def ask(sandbox: Sandbox, source: str) -> list[CallResult]:
    return list(sandbox.run_calls(source, [Call("f", (20,)), Call("f", (20,))]).calls)


@pytest.mark.parametrize("name", UNASKED)
def test_unasked_answers_do_not_count(name: str, either_sandbox: Sandbox) -> None:
    source = f"{WRITE}\n{UNASKED[name]}\ndef f(x):\n    return 0\n"
    answers = ask(either_sandbox, source)
    assert not any(matches(41, answer.encoded) for answer in answers)


@pytest.mark.parametrize("name", WITHIN)
def test_answers_besides_the_own_do_not_count(name: str, sandbox: Sandbox) -> None:
    attack = WITHIN[name].replace("; ", "\n    ")
    first, second = ask(sandbox, f"{WRITE}\ndef f(x):\n    {attack}\n    return 0\n")
    assert not matches(41, first.encoded)
    assert not matches(41, second.encoded)


def test_exits_do_not_look_like_success(sandbox: Sandbox) -> None:
    for early in ("import os; os._exit(0)", "import sys; sys.exit()", "raise SystemExit(0)"):
        result = sandbox.run_calls(f"{early}\ndef f(x): return 41", [Call("f", (20,))])
        assert result.calls[0].status == "not_run", early


def test_an_honest_program_is_believed(either_sandbox: Sandbox) -> None:
    first, second = ask(either_sandbox, "def f(x):\n    return 2 * x + 1\n")
    assert (first.value, second.value) == (41, 41)


LIES = {
    "an object that equals all": (
        "class A:\n    def __eq__(self, other): return True\n    __hash__ = None\n"
        "def f(x): return A()"
    ),
    "an int of its own": (
        "class A(int):\n    def __eq__(self, other): return True\n    __hash__ = int.__hash__\n"
        "    def __repr__(self): return '41'\n    def __int__(self): return 41\n"
        "def f(x): return A(0)"
    ),
    "a str of its own": "class A(str): pass\ndef f(x): return A('41')",
    "a float": "def f(x): return 41.0",
    "a bool": "def f(x): return True",
    "a text": "def f(x): return '41'",
    "a mock": "from unittest.mock import MagicMock\ndef f(x): return MagicMock()",
    "mock any": "from unittest.mock import ANY\ndef f(x): return ANY",
    "a metaclass": (
        "class M(type):\n    def __eq__(s, o): return True\n    def __hash__(s): return hash(int)\n"
        "class A(metaclass=M): pass\ndef f(x): return A()"
    ),
    "another class": (
        "class A:\n    @property\n    def __class__(self): return int\ndef f(x): return A()"
    ),
    "a poisoned pickle": (
        "import os\nclass A:\n    def __reduce__(self): return (os._exit, (0,))\n"
        "    def __getstate__(self): os._exit(0)\ndef f(x): return A()"
    ),
    "a tag of the encoding": "def f(x): return {'i': hex(41)}",
    "a generator": "def f(x): yield 41",
    "nothing": "def f(x): pass",
    "len": "import builtins\nbuiltins.len = lambda x: 41\ndef f(x): return 0",
    "isinstance": "import builtins\nbuiltins.isinstance = lambda *_: True\ndef f(x): return 0",
    "type": "import builtins\nbuiltins.type = lambda x: int\ndef f(x): return object()",
    "print and stdout": (
        "import sys, io\nsys.stdout = io.StringIO()\nprint = lambda *_: None\ndef f(x): return 0"
    ),
    "no stdout": "import sys\nsys.stdout = None\nsys.stderr.close()\ndef f(x): return 0",
    "every builtin": (
        "import builtins\nfor name in dir(builtins):\n"
        "    try: setattr(builtins, name, lambda *a, **k: 41)\n    except Exception: pass\n"
        "def f(x): return 0"
    ),
    "every module": (
        "import sys\nfor name in list(sys.modules): sys.modules[name] = None\ndef f(x): return 0"
    ),
}


@pytest.mark.parametrize("name", LIES)
def test_lies_are_not_the_answer(name: str, sandbox: Sandbox) -> None:
    answers = ask(sandbox, LIES[name])
    assert not any(matches(41, answer.encoded) for answer in answers)


def test_threads_and_handlers_do_not_outlive_the_answers(either_sandbox: Sandbox) -> None:
    source = """
import atexit, signal, sys, threading, time
def busy():
    while True: pass
atexit.register(busy)
threading.Thread(target=busy).start()
signal.signal(signal.SIGTERM, lambda *_: busy())
sys.settrace(lambda *_: None)
def f(x): return 7
"""
    result = either_sandbox.run_calls(source, [Call("f", (20,))])
    assert result.calls[0].value == 7
    assert result.ending == "exited"
